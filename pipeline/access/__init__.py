"""Who may use the service and how much: API keys, WebSocket tickets, owners and quotas."""
