"""A client that `openapi-python-client` generates from the OpenAPI document."""

import asyncio
import json
import subprocess
from pathlib import Path

import httpx
import pytest
from environments.venvs import LOCKS, ensure

from pipeline.clients.resources import Resources
from tests.support.openai_service import service
from tests.support.speech import voice_wav

pytestmark = pytest.mark.slow

AUDIO_TYPES = ("wav", "flac", "mpeg", "ogg", "aac", "pcm")

PROGRAM = """
import sys
from pathlib import Path
from client import Client
from client.api.jobs import get_job
from client.api.previews import create_preview, get_transcoded_preview
from client.models import BodyCreatePreview, GetTranscodedPreviewExtension, JobView, Problem
from client.types import File

api = Client(base_url=sys.argv[1])
with Path(sys.argv[2]).open("rb") as recording:
    body = BodyCreatePreview(response_text="Hello.", audio=File(recording, "a.wav", "audio/wav"))
    created = create_preview.sync_detailed(client=api, body=body)
assert created.status_code == 200, created
assert created.parsed.payload.read().startswith(b"RIFF")
job_id = created.headers["X-Job-Id"]
job = get_job.sync(job_id, client=api)
assert isinstance(job, JobView) and job.status.value == "succeeded", job
opus = get_transcoded_preview.sync(job_id, GetTranscodedPreviewExtension.OPUS, client=api)
assert opus.payload.read().startswith(b"OggS")

session_id = created.headers["X-Session-Id"]
body = BodyCreatePreview(response_text="Hello again.", session_id=session_id)
accepted = create_preview.sync(client=api, body=body, prefer="respond-async")
assert isinstance(accepted, JobView), accepted
wrong = create_preview.sync(client=api, body=BodyCreatePreview(response_text="Hello.", session_id="x"))
assert isinstance(wrong, Problem) and wrong.errors[0].field == "session_id", wrong
"""


async def run(*command: str, folder: Path) -> str:
    """Run a program; return its output."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_generated_client_creates_preview(resources: Resources, tmp_path: Path) -> None:
    python = str(ensure("openapi-python-client", LOCKS["openapi-python-client"]))
    overrides = {f"audio/{name}": "application/octet-stream" for name in AUDIO_TYPES}
    overrides |= dict.fromkeys(("application/zip", "application/jsonl"), "application/octet-stream")
    config = {"content_type_overrides": overrides, "post_hooks": []}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "recording.wav").write_bytes(voice_wav(150.0, seconds=3))
    async with service(resources) as running:
        async with httpx.AsyncClient() as client:
            document = (await client.get(f"{running.url}/openapi.json")).text
        (tmp_path / "openapi.json").write_text(document)
        generate = ("-m", "openapi_python_client", "generate", "--path", "openapi.json", "--meta", "none")
        output = await run(python, *generate, "--config", "config.json", "--output-path", "client", folder=tmp_path)
        assert "WARNING" not in output, output
        await run(python, "program.py", running.url, "recording.wav", folder=tmp_path)
