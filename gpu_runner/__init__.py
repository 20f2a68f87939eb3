"""The long-running worker: takes jobs off the queue, speaks them in batches, writes the results back."""
