"""Finding free ports, and explaining why one can't be used."""

import errno
import random
import socket
import sys

# Below the ephemeral range: a client that connects while its server is down could otherwise be assigned the
# server's own port as its source, and prevent the server from restarting.
PORTS = range(20_000, 32_000)


class PortUnavailable(Exception):
    """The port can't be listened on; the message says how to fix it."""


def free_port(host: str) -> int:
    """Return a port that nothing listens on.

    Raises
    ------
    PortUnavailable
        The host has no free port.
    """
    problem: PortUnavailable | None = None
    for port in random.sample(PORTS, 50):
        try:
            check_port(host, port)
        except PortUnavailable as error:
            problem = error
        else:
            return port
    raise problem or PortUnavailable(f"No port is free on {host}.")


def check_port(host: str, port: int) -> None:
    """Check that the port can be listened on.

    Raises
    ------
    PortUnavailable
        It can't.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise PortUnavailable(f"HOST={host} is no address to listen on: {error}.") from error
    with socket.socket(family, kind) as probe:
        if sys.platform != "win32":  # where it would allow sharing the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen()
        except OSError as error:
            raise PortUnavailable(_explain(host, port, error)) from error


def _explain(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"PORT {port} of {host} is taken by another program. Stop that, or choose another port: "
            f"`make run PORT={port + 1}`, or PORT=0 for any that is free."
        )
    if error.errno == errno.EACCES:
        return f"PORT {port} may not be listened on by this user; choose one from 1024 on, such as PORT=8000."
    return f"HOST={host} with PORT={port} can't be listened on: {error.strerror or error}."
