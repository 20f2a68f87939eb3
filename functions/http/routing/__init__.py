"""How a route gets its caller, its dependencies and its body."""
