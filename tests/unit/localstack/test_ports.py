"""Ports are found free, or refused with what would help."""

import socket

import pytest
from supervision.ports import PORTS, PortUnavailable, check_port, free_port


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port("127.0.0.1")
    assert port in PORTS
    check_port("127.0.0.1", port)


def test_a_taken_port_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortUnavailable, match=rf"PORT {port} .* is taken .*PORT={port + 1}"):
            check_port("127.0.0.1", port)


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortUnavailable, match="HOST="):
        check_port("192.0.2.1", 8000)
