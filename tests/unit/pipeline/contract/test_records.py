"""Records can be read by this version and by the previous and next one."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.contract.records import (
    ConnectionState,
    Failed,
    NewReference,
    Options,
    Preview,
    Record,
    ReplyTo,
    Request,
    Source,
    Subscriber,
    Succeeded,
    Timings,
    VoiceChange,
    VoiceMetadata,
    format_utc,
    outcome_fields,
    parse_outcome,
)
from pipeline.ids import id_maker
from tests.support.fakes.clock import EPOCH

ID = id_maker(lambda: EPOCH)()
MAKER = ReplyTo(endpoint="http://127.0.0.1:1", connection_id="c=1")
REQUEST = Request(
    job_id=ID,
    kind="preview",
    source=Source(session_id=ID),
    text="Grüße, 小明 🎧",
    options=Options(language="German"),
    created_at=EPOCH + timedelta(microseconds=5),
    subscriber=Subscriber(reply_to=MAKER, request_id="r1"),
    correlation_id="x",
    reference_id=ID,
    new_reference=NewReference(transcription="said"),
)
PREVIEW = Preview(key="k", sample_rate=24000, duration_seconds=1.5, expires_at=EPOCH)
TIMINGS = Timings(queued_seconds=0.1, synthesis_seconds=0.2, real_time_factor=0.3)
SUCCEEDED = Succeeded(**outcome_fields(REQUEST, EPOCH), preview=PREVIEW, timings=TIMINGS, warnings=("short",))
FAILED = Failed(**outcome_fields(REQUEST, EPOCH), code="c", message="m", field="f")
VOICE = VoiceMetadata(
    voice_id="zoe",
    name="Zoë",
    created_at=EPOCH,
    source_file="s",
    embedding_file="e",
    status="ready",
    changed_at=EPOCH + timedelta(microseconds=7),
    reference_id=ID,
)


@pytest.mark.parametrize(
    "record",
    [
        REQUEST,
        VOICE,
        VoiceChange(voice_id="v"),
        Subscriber(reply_to=MAKER, request_id="r"),
        ConnectionState(session_id=ID),
    ],
)
def test_record_round_trip(record: Record) -> None:
    assert type(record).model_validate_json(record.to_json()) == record


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED])
def test_outcome_round_trip(outcome: Succeeded | Failed) -> None:
    assert parse_outcome(outcome.to_json()) == outcome


def test_outcome_copies_request_fields() -> None:
    for outcome in (SUCCEEDED, FAILED):
        assert (outcome.subscriber, outcome.correlation_id) == (REQUEST.subscriber, "x")
        assert (outcome.source, outcome.created_at, outcome.kind) == (REQUEST.source, REQUEST.created_at, "preview")


def test_unknown_fields_are_ignored() -> None:
    stored: dict[str, Any] = json.loads(REQUEST.to_json()) | {"from_the_future": 1}
    del stored["options"], stored["new_reference"], stored["subscriber"]
    read = Request.model_validate(stored)
    assert (read.options.language, read.new_reference, read.subscriber) == ("Auto", None, None)


@pytest.mark.parametrize("record", [REQUEST, SUCCEEDED, FAILED])
def test_previous_version_subscriber(record: Request | Succeeded | Failed) -> None:
    flat = json.loads(record.to_json()) | {"id_withheld": True, "signed": True}
    stored = json.dumps(flat.pop("subscriber") | flat).encode()
    read = parse_outcome(stored) if isinstance(record, Succeeded | Failed) else Request.model_validate_json(stored)
    assert read.subscriber == Subscriber(reply_to=MAKER, request_id="r1", signed=True)
    assert read.model_copy(update={"subscriber": record.subscriber}) == record


def test_none_is_not_written() -> None:
    assert b"null" not in FAILED.model_copy(update={"field": None, "subscriber": None}).to_json()


@pytest.mark.parametrize(("session_id", "voice_id"), [(None, None), ("s", "v")])
def test_source_needs_exactly_one(session_id: str | None, voice_id: str | None) -> None:
    with pytest.raises(ValidationError, match="either"):
        Source(session_id=session_id, voice_id=voice_id)


def test_times_need_zone() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        Request.model_validate(REQUEST.model_dump() | {"created_at": datetime(2026, 1, 1)})


def test_times_are_written_in_utc() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    assert format_utc(datetime(2026, 1, 1, 5, 30, 0, 999_999, tzinfo=east)) == "2026-01-01T00:00:00Z"
    assert json.loads(VOICE.to_json())["created_at"] == "2026-01-01T00:00:00Z"
    assert format_utc(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"status": "queued"}', b"\xff"])
def test_parse_outcome_invalid(body: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_outcome(body)


def test_records_are_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        REQUEST.text = "other"  # type: ignore[misc]
