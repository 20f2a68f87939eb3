"""Decoding and checking of reference recordings, and the WAV format."""
