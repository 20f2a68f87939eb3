"""Authorization, dependencies and body parsing of routes."""
