"""The routes of OpenAI's audio API under `/v1`, for clients written for OpenAI."""
