"""Finding ports."""

import errno
import random
import socket
import sys

# Below what systems hand out for outgoing connections: a client that knocks while its server is away could
# otherwise be given the server's own port as its source, and keep the server from coming back.
CHOICE = range(20_000, 32_000)


class PortRefused(Exception):
    """The port can't be listened on; the message says what would help."""


def free_port(host: str) -> int:
    """Find a port that nobody listens on.

    Raises
    ------
    PortRefused
        There is none on this host.
    """
    problem: PortRefused | None = None
    for port in random.sample(CHOICE, 50):
        try:
            check_port(host, port)
        except PortRefused as error:
            problem = error
        else:
            return port
    raise problem or PortRefused(f"No port is free on {host}.")


def check_port(host: str, port: int) -> None:
    """Make sure that the port can be listened on.

    Raises
    ------
    PortRefused
        It can't.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise PortRefused(f"HOST={host} is no address to listen on: {error}.") from error
    with socket.socket(family, kind) as probe:
        if sys.platform != "win32":  # where it would mean to share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            raise PortRefused(_explain(host, port, error)) from error


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"PORT {port} of {host} is taken by another program. Stop that, or choose another port: "
            f"`make run PORT={port + 1}`, or PORT=0 for any that is free."
        )
    if error.errno == errno.EACCES:
        return f"PORT {port} may not be listened on by this user; choose one from 1024 on, such as PORT=8000."
    return f"HOST={host} with PORT={port} can't be listened on: {error.strerror or error}."
