"""Everyone who wants to know how a job ended is told, and a batch names exactly what has to come again."""

import json
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest

from functions.background import dead_letters, notify
from pipeline.access import api_keys
from pipeline.clients.storage import JSON
from pipeline.contract import layout
from pipeline.contract.messages import events
from pipeline.contract.records import Failed, ReplyTo, Request, Subscriber, Succeeded, outcome_fields
from pipeline.domain import jobs
from tests.support.fake_service import FakeService, job_of_newer_version

Event = dict[str, Any]


def address(connection_id: str) -> ReplyTo:
    return ReplyTo(endpoint="http://127.0.0.1:9", connection_id=connection_id)


def batch(*bodies: str) -> Event:
    return {"Records": [{"messageId": f"m{n}", "body": body} for n, body in enumerate(bodies)]}


def created(key: str) -> str:
    """Write the event as S3 does: the key encoded as in a form."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": "b"}, "object": {"key": quote_plus(key, safe="/"), "size": 1}},
    }
    return json.dumps({"Records": [record]})


def ended(request: Request) -> str:
    return created(layout.outcome(request.job_id))


async def tell(fakes: FakeService, event: Event) -> Event:
    return await notify.handle(fakes.resources, event, notify.Lookups.of(fakes.resources))


def again(answer: Event) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def told(fakes: FakeService) -> dict[str, Any]:
    assert len({to for to, _ in fakes.connections.posted}) == len(fakes.connections.posted), "told twice"
    return {to: json.loads(body) for to, body in fakes.connections.posted}


async def subscribe(
    fakes: FakeService, request: Request, connection_id: str, request_id: str | None = None
) -> None:
    subscriber = Subscriber(reply_to=address(connection_id), request_id=request_id)
    await fakes.bucket.put(layout.subscriber(request.job_id, connection_id), subscriber.to_json(), JSON)


@pytest.mark.parametrize(("gone", "listings"), [(False, 0), (True, 1)])
async def test_waiting_request_is_notified_first(gone: bool, listings: int) -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("c1"), interface="http"))
    await subscribe(fakes, request, "c2")
    await fakes.succeed(request)
    fakes.connections.gone |= {"c1"} if gone else set()
    fakes.bucket.switch.calls.clear()
    assert again(await tell(fakes, batch(ended(request)))) == []
    assert (fakes.bucket.switch.count("list"), fakes.bucket.switch.count("delete")) == (listings, 0)
    assert list(told(fakes)) == (["c2"] if gone else ["c1"])
    assert gone or told(fakes)["c1"] == {"job_id": request.job_id}


async def test_creator_is_notified() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("c1="), request_id="r1"))
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == []
    assert told(fakes) == {
        "c1=": {
            "type": "tts_complete",
            "data": {
                "job_id": request.job_id,
                "request_id": "r1",
                "correlation_id": "corr-1",
                "session_id": request.source.session_id,
                "audio_url": f"/previews/{request.job_id}.wav",
                "temporary": True,
                "finish_reason": "stop",
                "duration_seconds": 1.25,
                "sample_rate": 24_000,
                "expires_at": "2026-01-01T00:20:00Z",
            },
        }
    }


async def test_failure_is_sent_as_error() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("c1")))
    await fakes.fail(request)
    await tell(fakes, batch(ended(request)))
    assert told(fakes)["c1"] == {
        "type": "error",
        "data": {
            "job_id": request.job_id,
            "correlation_id": "corr-1",
            "session_id": request.source.session_id,
            "message": "It was not to be.",
            "code": "unavailable",
        },
    }


async def test_subscribers_get_own_request_id() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("maker"), request_id="r-maker"))
    await subscribe(fakes, request, "c1", "r-1")
    await subscribe(fakes, request, "c2")
    await subscribe(fakes, request, "maker", "r-maker-again")
    await fakes.succeed(request)
    await tell(fakes, batch(ended(request)))
    ids = {to: message["data"].get("request_id") for to, message in told(fakes).items()}
    assert ids == {"maker": "r-maker", "c1": "r-1", "c2": None}


async def test_job_without_subscriber() -> None:
    fakes = FakeService()
    request = await fakes.job()
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == []
    assert fakes.connections.posted == []


async def test_gone_subscriber_is_deleted() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("gone")))
    await subscribe(fakes, request, "gone-too")
    await subscribe(fakes, request, "here")
    for connection_id in ("gone", "gone-too", "here"):
        await fakes.bucket.put(layout.connection(address(connection_id)), b"{}", JSON)
    fakes.connections.gone = {"gone", "gone-too"}
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == []
    assert list(told(fakes)) == ["here"]
    assert fakes.keys(layout.CONNECTIONS) == [layout.connection(address("here"))]
    assert fakes.keys(layout.subscribers(request.job_id)) == [layout.subscriber(request.job_id, "here")]


async def test_unreachable_subscriber_is_retried() -> None:
    fakes = FakeService()
    one, other = (
        await fakes.job(Subscriber(reply_to=address("away"))),
        await fakes.job(Subscriber(reply_to=address("here"))),
    )
    fakes.connections.unreachable = {"away"}
    await fakes.succeed(one)
    await fakes.succeed(other)
    event = batch(ended(one), ended(other))
    assert again(await tell(fakes, event)) == ["m0"]
    fakes.connections.unreachable.clear()
    assert again(await tell(fakes, {"Records": event["Records"][:1]})) == []
    assert sorted(told(fakes)) == ["away", "here"]


@pytest.mark.parametrize("dead", ["maker", "c1"])
async def test_retry_skips_notified_subscribers(dead: str) -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("maker"), request_id="r-maker"))
    await subscribe(fakes, request, "c1", "r-c1")
    await subscribe(fakes, request, "c2")
    fakes.connections.unreachable = {dead}
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == []
    (retried,) = fakes.events.bodies
    assert again(await tell(fakes, batch(retried))) == ["m0"]
    assert told(fakes).keys() == {"maker", "c1", "c2"} - {dead}
    fakes.connections.unreachable.clear()
    assert again(await tell(fakes, batch(retried))) == []
    assert told(fakes).keys() == {"maker", "c1", "c2"}
    assert told(fakes)[dead]["data"]["request_id"] == f"r-{dead}"
    assert len(fakes.events.bodies) == 1


async def test_unqueued_retry_fails_event() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("maker")))
    await subscribe(fakes, request, "c1")
    fakes.connections.unreachable = {"c1"}
    fakes.events.switch.is_up = False
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == ["m0"]


async def test_storage_unavailable_fails_batch() -> None:
    fakes = FakeService()
    requests = [await fakes.job(Subscriber(reply_to=address("c"))) for _ in range(2)]
    fakes.bucket.switch.is_up = False
    assert again(await tell(fakes, batch(*map(ended, requests)))) == ["m0", "m1"]


async def test_damaged_outcome_fails_alone() -> None:
    fakes = FakeService()
    damaged, good = await fakes.job(), await fakes.job(Subscriber(reply_to=address("here")))
    await fakes.bucket.put(layout.outcome(damaged.job_id), b"{", JSON)
    await fakes.succeed(good)
    assert again(await tell(fakes, batch(ended(damaged), ended(good)))) == ["m0"]
    assert list(told(fakes)) == ["here"]


@pytest.mark.parametrize(
    "body",
    [
        '{"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "t", "Bucket": "b"}',
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        '{"Records": []}',
        '{"Records": [{}]}',
        created("jobs/x/outcome.json"),
        created("audio/previews/x.wav"),
        created("jobs/019cc1234567789089abcdef01234567/outcome.json"),
        created("jobs/019cc1234567789089abcdef01234567/outcome.json").replace("Created:Put", "Removed:Delete"),
    ],
)
async def test_other_events_are_ignored(body: str) -> None:
    fakes = FakeService()
    assert await tell(fakes, batch(body)) == {"batchItemFailures": []}
    assert fakes.connections.posted == []


def test_event_keys_are_decoded() -> None:
    assert events.keys_created(created("jobs/a b+c/ü=.json")) == ["jobs/a b+c/ü=.json"]
    many = {"Records": [json.loads(created(key))["Records"][0] for key in ("a", "b")]}
    assert events.keys_created(json.dumps(many)) == ["a", "b"]


def test_resent_event_is_read() -> None:
    assert events.keys_created(events.created_notification("b", "jobs/x/outcome.json")) == ["jobs/x/outcome.json"]


async def test_embedding_notifies_subscribers() -> None:
    fakes = FakeService()
    request = (await fakes.job()).model_copy(update={"kind": "embedding"})
    await subscribe(fakes, request, "c1")
    outcome = Succeeded(**outcome_fields(request, fakes.time()))
    await jobs.write_outcome(fakes.resources, outcome)
    await tell(fakes, batch(ended(request)))
    message = told(fakes)["c1"]
    assert message["type"] == "embedding_complete"
    assert message["data"]["job_id"] == request.job_id


async def test_dead_letter_fails_job() -> None:
    fakes = FakeService()
    request = await fakes.job()
    event = batch(fakes.synthesis.bodies[0])
    assert again(await dead_letters.handle(fakes.resources, event)) == []
    outcome = await jobs.read_outcome(fakes.resources, request.job_id)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.correlation_id) == ("synthesis_failed", "corr-1")


async def test_dead_letter_of_newer_version() -> None:
    fakes = FakeService()
    job_id = await job_of_newer_version(fakes, Subscriber(reply_to=address("a")))
    await dead_letters.handle(fakes.resources, batch(fakes.synthesis.bodies[0]))
    outcome = await jobs.read_outcome(fakes.resources, job_id)
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.code) == ("duet", "synthesis_failed")
    assert (await jobs.read(fakes.resources, None, job_id)).status == "failed"
    await tell(fakes, batch(created(layout.outcome(job_id))))
    assert told(fakes)["a"]["data"]["code"] == "synthesis_failed"


async def test_dead_letter_of_ended_job() -> None:
    fakes = FakeService()
    request = await fakes.job()
    succeeded = await fakes.succeed(request)
    await dead_letters.handle(fakes.resources, batch(fakes.synthesis.bodies[0]))
    assert await jobs.read_outcome(fakes.resources, request.job_id) == succeeded


async def test_dead_letter_without_job() -> None:
    fakes = FakeService()
    unknown = f'{{"job_id": "{fakes.resources.new_id()}"}}'
    assert again(await dead_letters.handle(fakes.resources, batch("nonsense", "{}", unknown))) == []
    assert fakes.keys() == []


async def test_dead_letter_storage_unavailable() -> None:
    fakes = FakeService()
    await fakes.job()
    await fakes.job()
    event = batch("nonsense", *fakes.synthesis.bodies)
    fakes.bucket.switch.is_up = False
    assert again(await dead_letters.handle(fakes.resources, event)) == ["m1", "m2"]


async def test_revoked_key_is_not_notified() -> None:
    fakes = FakeService()
    good, bad = [
        (await api_keys.make(fakes.resources, owner="alice", name=name, scopes=["preview"], expires_at=None))[
            1
        ].key_id
        for name in ("good", "bad")
    ]
    await api_keys.revoke(fakes.resources, bad)
    listening = address("c1").model_copy(update={"key_id": good})
    request = await fakes.job(Subscriber(reply_to=address("c2").model_copy(update={"key_id": bad})))
    subscriber = Subscriber(reply_to=listening)
    await fakes.bucket.put(layout.subscriber(request.job_id, "c1"), subscriber.to_json(), JSON)
    await fakes.succeed(request)
    assert again(await tell(fakes, batch(ended(request)))) == []
    assert list(told(fakes)) == ["c1"]


async def test_signed_url_is_sent_on_request() -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("c1")))
    await subscribe(fakes, request, "c2")
    subscriber = Subscriber(reply_to=address("c3"), signed=True)
    await fakes.bucket.put(layout.subscriber(request.job_id, "c3"), subscriber.to_json(), JSON)
    outcome = await fakes.succeed(request)
    await tell(fakes, batch(ended(request)))
    assert outcome.preview is not None
    link = urlsplit(told(fakes)["c3"]["data"]["signed_url"])
    assert link.path == f"/{layout.preview(request.job_id)}"
    (expires,) = parse_qs(link.query)["expires"]
    assert fakes.time() < datetime.fromisoformat(expires) < outcome.preview.expires_at
    assert all("signed_url" not in told(fakes)[other]["data"] for other in ("c1", "c2"))


@pytest.mark.parametrize("late", [False, True])
async def test_signed_url_unavailable(late: bool) -> None:
    fakes = FakeService()
    request = await fakes.job(Subscriber(reply_to=address("c1"), signed=True))
    await (fakes.succeed(request) if late else fakes.fail(request))
    fakes.advance(hours=1)
    await tell(fakes, batch(ended(request)))
    assert "signed_url" not in told(fakes)["c1"]["data"]
