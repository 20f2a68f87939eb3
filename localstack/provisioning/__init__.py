"""The parts of `provision.py`, and the recovery of queues that lost their messages."""
