"""Error responses as RFC 9457 problems, their statuses, and the RateLimit fields."""
