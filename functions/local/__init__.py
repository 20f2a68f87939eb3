"""The API under uvicorn on one machine."""
