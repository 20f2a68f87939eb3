import pytest

from pipeline import layout
from pipeline.records import Source

ID = "019cc1234567789089abcdef01234567"


def test_every_key_has_its_place() -> None:
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
    assert layout.connection("c1") == "connections/c1.json"
    assert layout.change(ID) == f"changes/{ID}.json"
    assert layout.key("0123456789ab") == "keys/0123456789ab/key.json"
    assert layout.key_use("0123456789ab") == "keys/0123456789ab/last-use.json"
    assert layout.ticket(ID) == f"tickets/{ID}.json"


def test_a_source_names_its_reference() -> None:
    assert layout.reference(Source(session_id=ID)) == layout.session(ID)
    assert layout.reference(Source(voice_id="nova")) == layout.voice(None, "nova")


def test_an_empty_session_id_is_no_voice() -> None:
    assert layout.reference(Source(session_id="")).folder == "audio/uploads//"


@pytest.mark.parametrize("connection_id", ["L0SM9cOFvHcCIhw=", "a/b", "../x", "a.b", "ü%", "http-" + ID])
def test_connection_ids_are_quoted_and_read_back(connection_id: str) -> None:
    key = layout.connection(connection_id)
    assert key.startswith("connections/")
    assert key.count("/") == 1
    if "." not in connection_id:
        assert layout.id_in(key, layout.CONNECTIONS) == connection_id
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
def test_the_id_is_read_out_of_a_key(key: str, prefix: str) -> None:
    assert layout.id_in(key, prefix) == ID


def test_only_an_outcome_is_an_outcome() -> None:
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
