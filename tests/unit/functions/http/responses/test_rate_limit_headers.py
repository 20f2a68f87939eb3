"""The RateLimit header fields."""

import json
import re

from functions.http.responses import problems, rate_limit_headers
from pipeline.errors import QuotaStatus, TooMany

REQUESTS = QuotaStatus("requests", 600, 12, 60, 37)
PREVIEWS = QuotaStatus("previews", 16, 0, unit="concurrent-requests")
# RFC 9651, 3.1 and 3.1.2, with what the draft wants of it: Strings, with Integers and Strings as parameters.
ITEM = r'"[ -!#-\[\]-~]*"(;[a-z][a-z0-9]*=([0-9]{1,15}|"[ -!#-\[\]-~]*"))*'


def test_headers_of_window() -> None:
    assert rate_limit_headers.headers(REQUESTS) == {
        "RateLimit-Policy": '"requests";q=600;w=60',
        "RateLimit": '"requests";r=12;t=37',
    }


def test_headers_without_window() -> None:
    assert rate_limit_headers.headers(PREVIEWS) == {
        "RateLimit-Policy": '"previews";q=16;qu="concurrent-requests"',
        "RateLimit": '"previews";r=0',
    }


def test_headers_of_several_quotas() -> None:
    both = rate_limit_headers.headers(REQUESTS, PREVIEWS)
    assert both["RateLimit"] == '"requests";r=12;t=37, "previews";r=0'
    assert all(re.fullmatch(f"{ITEM}(, {ITEM})*", value) for value in both.values())
    assert rate_limit_headers.headers() == {}


def test_exhausted_quota_returns_429() -> None:
    answer = problems.of_error(TooMany("Enough.", field="audio", retry_after=37, quota_status=REQUESTS))
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "37"
    assert answer.headers["RateLimit-Policy"] == '"requests";q=600;w=60'
    assert answer.headers["RateLimit"] == '"requests";r=12;t=37'
    body = json.loads(bytes(answer.body))
    assert (body["title"], body["code"], body["detail"]) == ("Too Many Requests", "too_many_requests", "Enough.")
    assert body["errors"] == [{"field": "audio", "message": "Enough."}]


def test_too_many_has_retry_after() -> None:
    answer = problems.of_error(TooMany("Enough.", retry_after=5))
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
    assert "RateLimit" not in answer.headers
