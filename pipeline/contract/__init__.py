"""What every process agrees on: the records, where each object is stored, when it expires, and the events."""
