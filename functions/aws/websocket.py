"""The functions of the WebSocket API's routes."""

import functions.aws.fast_start  # noqa: F401 - must be imported first
from functions.aws.process import start
from functions.aws.websocket_routes import Routes

_process = start("websocket")
_routes = Routes(_process.resources)

connect = _routes.serving(_process, _routes.connect)
disconnect = _routes.serving(_process, _routes.disconnect)
default = _routes.serving(_process, _routes.default)
