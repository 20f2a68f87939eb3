"""The WebSocket API: messages and their dispatch."""
