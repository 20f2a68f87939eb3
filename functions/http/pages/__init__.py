"""HTML pages: the API documentation and the studio."""
