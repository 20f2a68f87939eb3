"""API keys and WebSocket tickets in the storage, and the key command as a process."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from pipeline.access import api_keys, key_format, webhook_receivers, ws_tickets
from pipeline.access.api_keys import Caller
from pipeline.access.key_lookup import KeyLookup
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import format_utc
from pipeline.errors import Unauthorized
from pipeline.ids import utc_now
from pipeline.settings import Settings

ALICE = Caller("alice", "0123456789ab", frozenset({"preview"}))


async def test_ticket_redeemed_once_concurrently(resources: Resources) -> None:
    text, _ = await ws_tickets.issue(resources, ALICE)
    results = await asyncio.gather(*(ws_tickets.redeem(resources, text) for _ in range(32)), return_exceptions=True)
    assert results.count(ALICE) == 1
    assert sum(isinstance(result, Unauthorized) for result in results) == 31


async def test_key_changes_merge_concurrently(resources: Resources) -> None:
    _, record = await api_keys.make(resources, owner="alice", name="", scopes=["preview"], expires_at=None)
    later = resources.clock() + timedelta(days=9)
    await asyncio.gather(
        *(api_keys.expire(resources, record.key_id, later) for _ in range(4)),
        api_keys.revoke(resources, record.key_id),
        return_exceptions=True,
    )
    (listed,) = await api_keys.list_keys(resources)
    assert listed.record.revoked_at is not None


async def test_key_lookup_records_last_use(resources: Resources) -> None:
    text, record = await api_keys.make(resources, owner="alice", name="", scopes=["preview"], expires_at=None)
    key_lookup = KeyLookup(resources)
    callers = await asyncio.gather(*(key_lookup.caller(text) for _ in range(8)))
    assert {caller.owner for caller in callers} == {"alice"}
    (listed,) = await api_keys.list_keys(resources)
    assert listed.record == record
    assert listed.used_at is not None
    assert not await key_lookup.is_still_valid("0" * 12)


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The exit status and output of a command."""

    status: int | None
    output: str
    words: str


@asynccontextmanager
async def process(
    settings: Settings, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    env: Mapping[str, str] = {
        **os.environ,
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url or "",
        "BUCKET": settings.bucket,
        "VOICES_BUCKET": settings.bucket_for_voices,
        **environment,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        await started.communicate(b"")


async def command(settings: Settings, *arguments: str, **environment: str) -> CommandResult:
    async with process(settings, "-m", "functions.keys", *arguments, **environment) as started:
        output, words = await started.communicate()
        return CommandResult(started.returncode, output.decode(), words.decode())


SHELL = """
import contextlib, io, json, sys
from functions.keys import main

for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as words:
        status = main(json.loads(line))
    print(json.dumps([status, output.getvalue(), words.getvalue()]), flush=True)
"""


@pytest.fixture
async def run(resources: Resources) -> AsyncIterator[Callable[..., Awaitable[CommandResult]]]:
    """A function that runs commands in one process, as most of the time is spent on imports."""
    async with process(resources.settings, "-c", SHELL) as shell:

        async def ran(*arguments: str) -> CommandResult:
            assert shell.stdin is not None
            assert shell.stdout is not None
            shell.stdin.write(json.dumps(arguments).encode() + b"\n")
            return CommandResult(*json.loads(await shell.stdout.readline()))

        yield ran


async def test_key_commands_lifecycle(resources: Resources, run: Callable[..., Awaitable[CommandResult]]) -> None:
    settings = resources.settings
    made = await command(settings, "make", "--owner", "alice", "--name", "laptop", "--expires-in-days", "9")
    assert made.status == 0, made.words
    text = made.output.removesuffix("\n")
    presented = key_format.parse(text)
    assert presented is not None
    assert f"Made key {presented.key_id} for alice (preview, voices:write), good until " in made.words
    assert text[17:] not in made.words
    caller = await KeyLookup(resources).caller(text)
    assert caller == Caller("alice", presented.key_id, frozenset({"preview", "voices:write"}))

    admin = await run("make", "--owner", "bob", "--scope", "admin")
    assert admin.status == 0, admin.words
    listed = await run("list")
    head, first, second = listed.output.splitlines()
    assert head.split() == ["id", "owner", "name", "scopes", "created", "expires", "revoked", "last", "used"]
    assert first.split()[:4] == [presented.key_id, "alice", "laptop", "preview,voices:write"]
    assert second.split()[:4] == [admin.output[4:16], "bob", "-", "admin"]
    assert second.split()[5:] == ["-", "-", "-"]
    assert text[17:] not in listed.output
    assert len((await run("list", "--owner", "bob")).output.splitlines()) == 2

    moment = format_utc(utc_now() + timedelta(days=1))
    assert (await run("expire", presented.key_id, "--at", moment)).status == 0
    revoked = await run("revoke", presented.key_id)
    assert (revoked.status, revoked.output) == (0, "")
    row = (await run("list", "--owner", "alice")).output.splitlines()[1].split()
    assert row[5] == moment
    assert "-" not in row
    with pytest.raises(Unauthorized, match="revoked"):
        await KeyLookup(resources).caller(text)
    expired = await run("expire", admin.output[4:16], "--in-days", "0")
    assert expired.status == 0, expired.words
    with pytest.raises(Unauthorized, match="expired"):
        await KeyLookup(resources).caller(admin.output.strip())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["make", "--owner", "Not An Owner"], 1, "owner should be"),
        (["make", "--owner", "alice", "--expires-in-days", "0"], 1, "in the future"),
        (["revoke", "000000000000"], 1, "There is no key 000000000000"),
        (["revoke", "vck_000000000000_x"], 1, "key_id should be"),
    ],
)
async def test_key_commands_bad_value(resources: Resources, arguments: list[str], status: int, words: str) -> None:
    ended = await command(resources.settings, *arguments)
    assert (ended.status, ended.output) == (status, "")
    assert words in ended.words
    assert len(ended.words.splitlines()) == 1
    assert [item async for item in resources.voices.list(layout.KEYS)] == []


@pytest.mark.slow
async def test_key_commands_bad_environment(settings: Settings) -> None:
    wrong = await command(settings, "list", PORT="eighty")
    assert (wrong.status, wrong.output) == (2, "")
    assert wrong.words.startswith("PORT: ")
    no_bucket = await command(settings, "list")
    assert (no_bucket.status, no_bucket.output) == (1, "")
    assert len(wrong.words.splitlines()) == 1
    logged, message = no_bucket.words.splitlines()
    assert "misconfigured" in logged
    assert "NoSuchBucket" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["make"], "--owner"),
        (["make", "--owner", "alice", "--scope", "everything"], "everything"),
        (["make", "--owner", "alice", "--expires-in-days", "1e99"], "0 to 36500"),
        (["expire", "000000000000"], "--in-days"),
        (["expire", "000000000000", "--at", "2030-01-01"], "2030-01-01T00:00:00Z"),
    ],
)
async def test_key_commands_usage_error(settings: Settings, arguments: list[str], words: str) -> None:
    ended = await command(settings, *arguments)
    assert (ended.status, ended.output) == (2, "")
    assert words in ended.words
    assert "Traceback" not in ended.words


@pytest.mark.slow
async def test_webhook_commands(resources: Resources) -> None:
    settings = resources.settings
    url = "https://example.com/hook"
    early = await command(settings, "webhook-url", "--owner", "alice", url)
    assert (early.status, "webhook-secret" in early.words) == (1, True)
    first = await command(settings, "webhook-secret", "--owner", "alice")
    second = await command(settings, "webhook-secret", "--owner", "alice")
    made = [one.output.removesuffix("\n") for one in (second, first)]
    assert all(secret.startswith("whsec_") for secret in made)
    assert not any(secret in one.words for secret in made for one in (first, second))
    assert (await command(settings, "webhook-url", "--owner", "alice", url)).status == 0
    receiver = await webhook_receivers.read(resources, "alice")
    assert (list(receiver.secrets), receiver.url) == (made, url)
    assert (await command(settings, "webhook-url", "--owner", "alice")).status == 0
    assert (await webhook_receivers.read(resources, "alice")).url is None
    assert (await command(settings, "webhook-url", "--owner", "alice", "http://10.0.0.1/")).status == 1
    assert (await webhook_receivers.read(resources, None)).secrets == ()
