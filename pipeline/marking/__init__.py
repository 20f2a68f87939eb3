"""Marks of synthetic audio, and their detection."""
