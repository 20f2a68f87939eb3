"""In-memory fakes of the storage, the queues, the clock and the connections."""
