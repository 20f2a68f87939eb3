"""How much an owner may use: requests, recordings, concurrent previews, and saved voices."""
