"""The functions behind the WebSocket API's routes."""

from functions.aws.process import start
from functions.aws.sockets import Routes

_process = start("websocket")
_routes = Routes(_process.resources)

connect = _routes.serving(_process, _routes.connect)
disconnect = _routes.serving(_process, _routes.disconnect)
default = _routes.serving(_process, _routes.default)
