"""Host names: those that can be looked up, and those that no resolver accepts."""

import pytest
from yarl import URL

from pipeline.access import webhook_receivers
from pipeline.addresses import is_host
from pipeline.errors import InvalidInput
from pipeline.settings import Settings

MALFORMED = [
    "",
    ".",
    "..",
    "xn--",
    "a.xn--",
    "xn--a.com",
    "xn--99999.com",
    "XN--A.com",
    "127.0.0.1..",
    "example..com",
    ".example.com",
    "example.com..",
    "a" * 64 + ".com",
    "a" * 300,
    "a" * 300 + ".com",
    ".".join(["a" * 60] * 5),
    "-a.com",
    "a-.com",
    "exa%6dple.com",
    "exa!mple.com",
    "example.com,",
    "127.1",
    "0x7f.1",
    "2130706433",
    "0x7f000001",
    "example.0x1",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "example.123",
    "2606:4700::1111%eth0",
    "2606:4700:::1111",
]


@pytest.mark.parametrize("host", MALFORMED)
def test_is_host_malformed(host: str) -> None:
    assert not is_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com.",
        "EXAMPLE.com",
        "localhost",
        "a_b.example.com",
        "xn--mnchen-3ya.de",
        "xn--ls8h.la",
        "1and1.example",
        "3com.com",
        "a" * 63 + ".com",
        "127.0.0.1",
        "2606:4700::1111",
    ],
)
def test_is_host_valid(host: str) -> None:
    assert is_host(host)
    host.encode("idna")
    assert URL.build(scheme="https", host=host).host


@pytest.mark.parametrize("host", [host for host in MALFORMED if ":" not in host] + ["[2606:4700::1111%25eth0]"])
def test_webhook_url_malformed_host(host: str) -> None:
    with pytest.raises(InvalidInput, match="public host") as caught:
        webhook_receivers.check_url(f"https://{host}/hook", Settings())
    assert caught.value.field == "webhook_url"
