"""Clients of S3, SQS and the WebSocket management API, and their construction."""
