"""The Lambda entry points, each in its own process, against S3 and SQS over HTTP."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from functions.aws.process import Event
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.records import Failed, ReplyTo, Request, Source
from pipeline.domain import acceptance, jobs
from tests.support.aws_events import recorded
from tests.support.trace_collector import Collector

ROOT = Path(__file__).parents[2]
# Like Lambda's runtime: import the handler once, then call it with each event.
RUNTIME = """
import gc, importlib, json, sys
module, name = sys.argv[1].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)
class Context:
    aws_request_id = "r1"
answers = [handler(json.loads(line), Context()) for line in sys.stdin]
print(json.dumps({"answers": answers, "collects": gc.isenabled()}))
"""


def run(resources: Resources, handler: str, *events: Event, **more: str) -> "subprocess.CompletedProcess[str]":
    settings = resources.settings
    named = ("aws_endpoint_url", "bucket", "voices_bucket", "synthesis_queue", "synthesis_dead_letter_queue")
    environment = {name.upper(): str(getattr(settings, name)) for name in named} | {"LOG_FORMAT": "json"} | more
    return subprocess.run(
        [sys.executable, "-c", RUNTIME, handler],
        input="".join(json.dumps(event) + "\n" for event in events),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


async def invoked(resources: Resources, handler: str, *events: Event, **more: str) -> list[Any]:
    """Start a function and send it events.  Return its responses, and check that its log consists of JSON lines."""
    done = await asyncio.to_thread(run, resources, handler, *events, **more)
    assert done.returncode == 0, done.stderr
    for line in done.stderr.splitlines():
        assert json.loads(line)["service"]
    printed = json.loads(done.stdout)
    assert printed["collects"]
    answers: list[Any] = printed["answers"]
    return answers


async def two_jobs(resources: Resources) -> dict[str, str]:
    requests = []
    for _ in range(2):
        session_id = resources.new_id()
        request = Request(
            job_id=resources.new_id(),
            kind="preview",
            source=Source(session_id=session_id),
            reference_id=session_id,
            text="Hello.",
            created_at=resources.clock(),
        )
        await acceptance.accept(resources, request)
        requests.append(request)
    return {"FIRST_JOB_ID": requests[0].job_id, "SECOND_JOB_ID": requests[1].job_id}


async def test_http_function_serves_events(resources: Resources) -> None:
    one, two = recorded("http_get"), recorded("http_get")
    two["requestContext"]["requestId"] = "another="
    for event in (one, two):
        event["requestContext"]["timeEpoch"] = int(time.time() * 1000)
    answers = await invoked(resources, "functions.aws.http.handler", one, two)
    assert [answer["statusCode"] for answer in answers] == [200, 200]
    assert [answer["headers"]["x-correlation-id"] for answer in answers] == ["JKJaXmPLvHcESHA=", "another="]


async def test_http_function_flushes_spans(resources: Resources) -> None:
    collector = Collector()
    event = recorded("http_get")
    event["headers"]["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event["requestContext"]["timeEpoch"] = int(time.time() * 1000)
    (answer,) = await invoked(resources, "functions.aws.http.handler", event, TRACES_URL=collector.url)
    assert answer["statusCode"] == 200
    ((service, span),) = collector.spans["0af7651916cd43dd8448eb211c80319c"]
    collector.close()
    assert (service, span.name) == ("api", "request")
    assert {one.key: one.value.string_value for one in span.attributes} == {"method": "GET", "path": "/voices"}


async def test_dead_letters_and_notify_functions(resources: Resources) -> None:
    job_ids = await two_jobs(resources)
    dead = recorded("sqs_dead_letters", **job_ids)
    (answer,) = await invoked(resources, "functions.aws.dead_letters.handler", dead)
    assert answer == {"batchItemFailures": []}
    for job_id in job_ids.values():
        assert isinstance(await jobs.read_outcome(resources, job_id), Failed)
    created = recorded("sqs_s3_created", **job_ids)
    assert await invoked(resources, "functions.aws.notify.handler", created, created) == [answer, answer]


@pytest.mark.parametrize("name", ["schedule", "schedule_rule"])
async def test_sweep_function_runs(resources: Resources, name: str) -> None:
    (swept,) = await invoked(resources, "functions.aws.sweep.handler", recorded(name))
    assert swept
    assert set(swept.values()) == {0}


async def test_websocket_functions_connect_disconnect(resources: Resources) -> None:
    connect, leave = recorded("websocket_connect"), recorded("websocket_disconnect")
    connection_id = connect["requestContext"]["connectionId"]
    connection = layout.connection(ReplyTo(endpoint="", connection_id=connection_id))
    await resources.bucket.put(connection, b"{}", JSON)
    handled = {"statusCode": 200}
    assert await invoked(resources, "functions.aws.websocket.connect", connect) == [handled]
    assert await invoked(resources, "functions.aws.websocket.disconnect", leave) == [handled]
    assert await resources.bucket.get(connection) is None


async def test_function_start_names_bad_setting(resources: Resources) -> None:
    done = await asyncio.to_thread(run, resources, "functions.aws.sweep.handler", PREVIEW_RETENTION_MINUTES="soon")
    assert done.returncode != 0
    assert "PREVIEW_RETENTION_MINUTES" in done.stderr
