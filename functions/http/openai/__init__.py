"""OpenAI's audio API under `/v1`: an adapter, for clients that were written for OpenAI."""
