"""The message that `make run` prints when everything is ready."""

from pathlib import Path

from supervision.startup_message import WIDTH, startup_message

from pipeline.settings import Settings


def test_startup_message_fits_terminal() -> None:
    settings = Settings(tts_backend="hibari", host="0.0.0.0", port=8123)
    lines = startup_message(settings, Path("/data"), "curl …").splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    text = "\n".join(lines)
    for part in ("http://127.0.0.1:8123\n", "hibari", "not a\n  clone", "`make run TTS_BACKEND=qwen`", "Ctrl-C"):
        assert part in text
