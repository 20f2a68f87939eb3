"""Authentication, ownership and limits: API keys, WebSocket tickets, owners, rate limits, idempotency keys."""
