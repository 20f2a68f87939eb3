"""From settings to a model on its device: what is there, what it needs, and what stands in the way."""
