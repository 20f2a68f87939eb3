"""The audit log: one hash chain per owner, in objects that are written once."""
