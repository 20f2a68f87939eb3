"""Health, status and metrics of the service, for its operators."""
