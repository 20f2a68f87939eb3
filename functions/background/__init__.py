"""Handlers of queues and of the schedule: notify, sweep, dead letters."""
