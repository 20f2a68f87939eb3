"""Removal of a voice with everything that was made from it."""
