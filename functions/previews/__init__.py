"""Code that HTTP and WebSocket share for requesting previews and waiting for them."""
