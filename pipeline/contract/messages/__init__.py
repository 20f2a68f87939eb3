"""Messages between processes: of queues, of events, to waiting requests, to webhooks."""
