"""Decoding and validation of reference recordings, and the WAV format."""
