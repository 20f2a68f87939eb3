"""The embedded AWS's data folder: credentials, the file that says where it listens, objects on the disk."""
