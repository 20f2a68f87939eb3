"""The worker's side of the synthesis queue: receiving, extending, deleting and returning messages."""
