"""Storage keys and the ids in them."""

import pytest

from pipeline.contract import layout
from pipeline.contract.records import ReplyTo, Request, Source
from tests.support.fakes.clock import EPOCH

ID = "019cc1234567789089abcdef01234567"


def test_keys_of_objects() -> None:
    session, voice = layout.session(ID), layout.voice(None, "nova")
    assert session.audio == f"audio/uploads/{ID}/source.wav"
    assert session.transcription == f"audio/uploads/{ID}/transcription.txt"
    assert session.embedding == f"audio/uploads/{ID}/embedding.json"
    assert session.unchecked_audio == f"audio/uploads/{ID}/upload"
    assert voice.metadata == "audio/voices/nova/metadata.json"
    assert layout.preview(ID) == f"audio/previews/{ID}.wav"
    assert layout.request(ID) == f"jobs/{ID}/request.json"
    assert layout.outcome(ID) == f"jobs/{ID}/outcome.json"
    assert layout.subscriber(ID, "c1") == f"jobs/{ID}/subscribers/c1.json"
    assert layout.change(ID) == f"changes/{ID}.json"
    assert layout.key("0123456789ab") == "keys/0123456789ab/key.json"
    assert layout.key_use("0123456789ab") == "keys/0123456789ab/last-use.json"
    assert layout.ticket(ID) == f"tickets/{ID}.json"


def request(source: Source, folder: str | None = None) -> Request:
    return Request(
        job_id=ID, kind="preview", source=source, created_at=EPOCH, reference_id=ID, reference_folder=folder
    )


def test_reference_of_source() -> None:
    assert layout.reference(request(Source(session_id=ID))) == layout.session(ID)
    assert layout.reference(request(Source(voice_id="nova"))) == layout.voice(None, "nova")
    folder = layout.voice_reference("alice", "nova", ID).folder
    assert layout.reference(request(Source(voice_id="nova", owner="alice"), folder)).audio == (
        f"audio/voices/alice/nova/{ID}/source.wav"
    )


def test_empty_session_id() -> None:
    assert layout.reference(request(Source(session_id=""))).folder == "audio/uploads//"


@pytest.mark.parametrize("connection_id", ["L0SM9cOFvHcCIhw=", "a/b", "../x", "a.b", "ü%", "http-" + ID])
def test_connection_id_is_quoted(connection_id: str) -> None:
    key = layout.connection(ReplyTo(endpoint="", connection_id=connection_id, connected_at=EPOCH))
    assert key.startswith("connections/019b76daa800-")
    assert key.count("/") == 1
    assert layout.time_in(key, layout.CONNECTIONS) == EPOCH
    assert layout.subscriber(ID, connection_id).count("/") == 3


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (f"audio/uploads/{ID}/source.wav", layout.UPLOADS),
        (f"audio/previews/{ID}.wav", layout.PREVIEWS),
        (f"jobs/{ID}/subscribers/c.json", layout.JOBS),
        (f"changes/{ID}.json", layout.CHANGES),
        (f"tickets/{ID}.json", layout.TICKETS),
    ],
)
def test_id_in_key(key: str, prefix: str) -> None:
    assert layout.id_in(key, prefix) == ID


def test_job_id_of_outcome() -> None:
    assert layout.job_id_of_outcome(f"jobs/{ID}/outcome.json") == ID
    for key in (
        f"jobs/{ID}/request.json",
        f"jobs/{ID}/subscribers/outcome.json",
        f"jobs/{ID[:-1]}/outcome.json",
        f"x/jobs/{ID}/outcome.json",
        f"jobs/{ID}/outcome.json.bak",
        f"audio/previews/{ID}.wav",
        "jobs//outcome.json",
    ):
        assert layout.job_id_of_outcome(key) is None


def test_usage_keys_by_owner() -> None:
    assert layout.quota("alice", "requests", EPOCH) == "shares/019b76daa800/alice/requests.json"
    assert layout.in_flight("alice", ID) == f"in-flight/alice/{ID}"
    assert layout.job_id_in_flight(layout.in_flight("alice", ID)) == ID
    assert layout.voices("alice") == "audio/voices/alice/"


def test_connection_of_unknown_time() -> None:
    key = layout.connection(ReplyTo(endpoint="", connection_id="c1"))
    assert key == "connections/c1.json"
    assert layout.time_in(key, layout.CONNECTIONS) is None
