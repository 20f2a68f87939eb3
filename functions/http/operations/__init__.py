"""What whoever runs the service is told of it."""
