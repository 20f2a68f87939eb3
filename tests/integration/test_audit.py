"""The audit log in S3, and its command as a process."""

import asyncio
import json
import os
import sys
from pathlib import Path

from pipeline.access.audit import chain
from pipeline.access.audit.entries import record
from pipeline.access.audit.verification import verify
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.settings import Settings

WRITERS = 8


async def test_writers_of_one_chain(resources: Resources) -> None:
    async def write(number: int) -> None:
        for count in range(3):
            await record(resources, "alice", "used", f"v{number}-{count}")
            await chain.append_pending(resources, "alice")

    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    lines = [json.loads(line.body) async for line in chain.lines(resources, "alice")]
    assert {line["voice_id"] for line in lines} == {f"v{n}-{c}" for n in range(WRITERS) for c in range(3)}
    assert len(lines) == 3 * WRITERS
    head = await verify(resources, "alice")
    assert head is not None
    assert head.sequence == len(lines)


async def run(settings: Settings, *arguments: str) -> tuple[int | None, str, str]:
    """Run the command, and return its exit status and output."""
    given = settings.model_dump(include={"aws_endpoint_url", "bucket", "voices_bucket"})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "functions.audit", "verify", *arguments),
        env=os.environ | {name.upper(): value for name, value in given.items()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_verify_command(settings: Settings, resources: Resources, tmp_path: Path) -> None:
    for voice_id in ("ann", "bob"):
        await record(resources, "alice", "saved", voice_id)
        await chain.append_pending(resources, "alice")
    status, heads, _ = await run(settings)
    assert status == 0
    assert json.loads(heads)["sequence"] == 2
    known = tmp_path / "heads.jsonl"
    known.write_text(heads)
    await resources.audit.delete([layout.audit_object("alice", 2)])
    status, _, reason = await run(settings, "--heads", str(known))
    assert (status, reason) == (1, "Chain alice, entry 2: entries up to 2 are missing.\n")
