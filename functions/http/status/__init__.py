"""Health checks, service status, and metrics."""
