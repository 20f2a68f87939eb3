"""Request parameters that FastAPI does not parse: form options, `Prefer`, `Accept`, `Range`."""
