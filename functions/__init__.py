"""The stateless entry points: the same code runs as AWS Lambda handlers and under uvicorn."""
