"""What HTTP and WebSocket share when a preview is requested and waited for."""
