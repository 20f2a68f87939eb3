"""The functions behind the WebSocket API's routes."""

from functions.aws.process import start
from functions.aws.sockets import Routes, anyone

_process = start("websocket")
_routes = Routes(_process.resources, admits=anyone)

connect = _routes.serving(_process, _routes.connect)
disconnect = _routes.serving(_process, _routes.disconnect)
default = _routes.serving(_process, _routes.default)
