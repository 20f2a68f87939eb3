"""Malformed and ambiguous bodies."""

import gc
import warnings

import pytest

from tests.support.api import api, problem
from tests.support.fake_service import FakeService


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"\x00", b"[" * 100_000])
async def test_json_malformed(content: bytes) -> None:
    async with api(FakeService()) as client:
        answer = await client.post("/voices", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}
    problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "multipart/form-data"),
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary=b"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        (b"response_text=%ff%fe", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (b"x", "text/plain"),
        (b"x", ""),
    ],
)
@pytest.mark.parametrize("route", ["/preview", "/preview-from-voice", "/upload"])
async def test_form_malformed(route: str, content: bytes, content_type: str) -> None:
    fakes = FakeService()
    async with api(fakes) as client:
        answer = await client.post(route, content=content, headers={"content-type": content_type})
    assert answer.status_code in {400, 422}
    problem(answer, answer.status_code)
    assert fakes.keys() == []


async def test_content_type_wrong() -> None:
    async with api(FakeService()) as client:
        as_json = await client.post("/preview", json={"response_text": "Hello."})
        as_text = await client.post("/voices", content='{"name": "Nova"}', headers={"Content-Type": "text/plain"})
    assert "multipart/form-data" in problem(as_json, 400, "bad_request")["error"]
    assert "JSON object" in problem(as_text, 422, "invalid_input")["error"]


async def test_file_of_truncated_form_is_closed() -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    content = head + bytes(2 * 1024 * 1024)  # more than is kept in memory
    async with api(FakeService()) as client:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            answer = await client.post(
                "/upload", content=content, headers={"content-type": "multipart/form-data; boundary=b"}
            )
            gc.collect()
    assert answer.status_code == 400
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []
