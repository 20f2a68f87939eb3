"""API keys: their format, their records, and their look-up."""
