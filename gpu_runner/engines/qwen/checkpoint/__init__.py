"""Loading a model onto its device: locating its files, checking its requirements, reporting errors."""
