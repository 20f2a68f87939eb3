"""Pages for people: the API to read and try out, and the studio."""
