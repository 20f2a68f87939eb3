"""Routes about marks, consents and the audit log."""
