"""Consents of speakers: statements, recordings, checks, reviews and receipts."""
