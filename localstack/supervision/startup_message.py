"""The message that `make run` prints when everything is ready."""

import re
import textwrap
from pathlib import Path

import structlog

from pipeline.contract.engines import ENGINES
from pipeline.settings import Settings
from supervision.local_settings import load_local_settings
from supervision.sample_recording import TRANSCRIPTION, write_sample

log = structlog.get_logger()

WIDTH = 78


def local_url(settings: Settings) -> str:
    """Return the URL of the API on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def print_startup_message(settings: Settings, data: Path) -> None:
    """Print the addresses and an example."""
    sample = data / "sample.wav"
    try:
        write_sample(sample)
    except OSError as error:
        log.warning("could not write the sample recording", file=str(sample), reason=str(error))
    in_container = load_local_settings().first_key_owner
    keys = "python localstack/keys.py make --owner me" if in_container else "make -s keys ARGS='make --owner me'"
    make_key = f"KEY=$({keys})\n\n" if settings.wants_keys else ""
    show_key = '-H "Authorization: Bearer $KEY" ' if settings.wants_keys else ""
    curl = (
        f'{make_key}curl --fail-with-body -sS {show_key}-F "audio=@{sample.as_posix()}" '
        f'-F "transcription={TRANSCRIPTION}" -F "response_text=Good to hear you." '
        f"-o preview.wav {local_url(settings)}/preview || cat preview.wav"
    )
    print(startup_message(settings, data, curl), flush=True)


def startup_message(settings: Settings, data: Path, curl: str) -> str:
    """Return the addresses, the engine and its limits, and the commands to try, continue and stop."""
    url, engine = local_url(settings), ENGINES[settings.tts_backend]
    # The notice names the limits of the engine and the command for another one.
    unbroken = re.sub("`.*?`", lambda command: command[0].replace(" ", "\0"), engine.notice or f"{engine.label}.")
    voice = textwrap.fill(unbroken, WIDTH, initial_indent="  ", subsequent_indent="  ").replace("\0", " ")
    rule = "─" * WIDTH
    return f"""
{rule}
Listening on {url}

  Studio        {url}
  API           {url}/docs and {url.replace("http", "ws", 1)}/ws
  Stored in     {data}
  Voice engine  {engine.name}

{voice}

To try it without a browser:

{curl}

Ctrl-C stops everything.
{rule}
"""
