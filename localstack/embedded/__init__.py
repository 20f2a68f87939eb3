"""The embedded AWS: ministack as a local process, its configuration, and its discovery by other programs."""
