"""The loop in the README that waits for a job ends for every outcome."""

import asyncio
from pathlib import Path

import httpx
import pytest

from functions.local.server import local_app
from pipeline.clients.resources import Resources
from tests.support.http_server import FAILING_TEXT, run_server, run_simple_worker
from tests.support.speech import voice_wav

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize(("text", "status"), [("Hello.", "succeeded"), (FAILING_TEXT, "failed")])
async def test_readme_wait_loop_ends(resources: Resources, tmp_path: Path, text: str, status: str) -> None:
    (loop,) = (line for line in README.read_text().splitlines() if line.startswith("while curl"))
    async with run_server(local_app(resources.settings)) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post(
            "/preview",
            data={"response_text": text},
            files={"audio": ("a.wav", voice_wav(120.0))},
            headers={"Prefer": "respond-async"},
        )
        script = f"API={url} JOB={answer.json()['job_id']}; {loop}; cat job.json"
        waiting = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with run_simple_worker(resources), asyncio.timeout(10):
                output, _ = await waiting.communicate()
        finally:
            if waiting.returncode is None:
                waiting.kill()
                await waiting.wait()
    assert f'"status":"{status}"'.encode() in output
