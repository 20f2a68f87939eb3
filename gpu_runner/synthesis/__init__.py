"""Processing of a job: from a stored request to a stored outcome."""
