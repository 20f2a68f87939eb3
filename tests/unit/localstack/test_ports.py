"""Ports are found free, or refused with what would help."""

import socket

import pytest
from supervision.ports import PORTS, PortUnavailable, check_port, free_port


def test_free_port() -> None:
    port = free_port("127.0.0.1")
    assert port in PORTS
    check_port("127.0.0.1", port)


def test_check_port_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match=rf"PORT {port} .* is taken .*PORT={port + 1}"):
            check_port("127.0.0.1", port)


def test_check_port_foreign_host() -> None:
    with pytest.raises(PortUnavailable, match="HOST="):
        check_port("192.0.2.1", 8000)
