"""The options of uvicorn."""

from typing import Any

from functions.local.http_protocol import HttpProtocol
from functions.local.websocket_protocol import WebSocketProtocol
from functions.websocket.client_messages import MESSAGE_MAX_BYTES
from pipeline.settings import Settings

PING_SECONDS = 20.0

OPTIONS: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "server_header": False,
    # By default uvicorn trusts every program on this machine.
    "proxy_headers": False,
    "http": HttpProtocol,
    "ws": WebSocketProtocol,
    # A longer message closes its connection with 1009, as in API Gateway.
    "ws_max_size": MESSAGE_MAX_BYTES,
    # API Gateway has no compression either; a small frame could expand to a large message.
    "ws_per_message_deflate": False,
    # Pings detect disconnected clients; a connected client may be idle indefinitely.
    "ws_ping_interval": PING_SECONDS,
    "ws_ping_timeout": PING_SECONDS,
}


def proxy_options(settings: Settings) -> dict[str, Any]:
    """Return the options that trust the proxies in the settings, and no others, to name their client."""
    proxies = settings.proxies
    return {"proxy_headers": bool(proxies), "forwarded_allow_ips": list(proxies)}
