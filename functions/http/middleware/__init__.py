"""ASGI middleware for all HTTP requests."""
