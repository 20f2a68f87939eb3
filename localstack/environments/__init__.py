"""Virtual environments under `.venvs`, and the lock files that they are created from."""
