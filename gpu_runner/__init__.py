"""The long-running worker: receives jobs from the queue, synthesizes them in batches, stores the results."""
