"""The embedded AWS: ministack as a process of this machine, its configuration, and how other programs find it."""
