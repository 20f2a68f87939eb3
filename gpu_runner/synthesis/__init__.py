"""The work itself: from a stored request to a stored outcome."""
