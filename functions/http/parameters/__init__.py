"""Request parameters that need more than FastAPI's own parsing: form options, `Prefer`, `Range`."""
