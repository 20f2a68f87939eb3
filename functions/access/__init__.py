"""Authentication, authorization and throttling of callers, over HTTP and WebSocket."""
