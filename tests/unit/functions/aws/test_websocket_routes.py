"""WebSocket events of API Gateway, as recorded: the same dispatch as the local socket, answers posted."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from functions.aws.process import Process
from functions.aws.websocket_routes import Routes
from pipeline.access import api_keys, ws_tickets
from pipeline.access.key_lookup import KeyLookup
from pipeline.contract import layout
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.contract.records import ReplyTo, Subscriber
from pipeline.domain import jobs
from pipeline.errors import Unavailable
from pipeline.settings import Settings
from tests.support.aws_events import Context, process_of, recorded
from tests.support.fake_service import FakeService
from tests.support.fakes.clock import EPOCH

CLIENT = "XfGLwd8ZtjMCJHw="
ENDPOINT = "https://f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com/live"
SENDER = ReplyTo(endpoint=ENDPOINT, connection_id=CLIENT, connected_at=EPOCH)
HANDLED = {"statusCode": 200}


class Gateway:
    """A function's process, and the fakes behind it."""

    def __init__(self, fakes: FakeService, process: Process) -> None:
        self.fakes = fakes
        self.run = process.run
        self.routes = Routes(fakes.resources)
        self._process = process

    def __call__(self, route: str, name: str, **said: str) -> Any:
        handler = self.routes.serving(self._process, getattr(self.routes, route))
        return handler(recorded(name, **said), Context())

    def say(self, type_: str, **data: object) -> Any:
        """Send a message as a client does."""
        return self("default", "websocket_message", BODY=json.dumps({"type": type_, "data": data}))

    def told(self) -> list[dict[str, Any]]:
        """What was posted to the client."""
        assert {to for to, _ in self.fakes.connections.posted} <= {CLIENT}
        return [json.loads(body) for _, body in self.fakes.connections.posted]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    fakes = FakeService()
    with process_of(fakes.resources) as process:
        yield Gateway(fakes, process)


def test_connect_posts_nothing(gateway: Gateway) -> None:
    assert gateway("connect", "websocket_connect") == HANDLED
    assert gateway.told() == []
    assert gateway.fakes.keys() == []


@pytest.fixture
def locked() -> Iterator[Gateway]:
    """A gateway where keys are wanted."""
    fakes = FakeService(Settings(auth="keys", cors_origins="https://studio.example"))
    with process_of(fakes.resources) as process:
        yield Gateway(fakes, process)


def key_of(gateway: Gateway) -> str:
    made = api_keys.make(gateway.fakes.resources, owner="alice", name="", scopes=["preview"], expires_at=None)
    return gateway.run(made)[0]


def handshake(gateway: Gateway, **headers: str) -> Any:
    event = recorded("websocket_connect")
    event["headers"] |= headers
    event["queryStringParameters"] = None
    return gateway.routes.serving(gateway._process, gateway.routes.connect)(event, Context())


def test_connect_without_key_is_refused(locked: Gateway) -> None:
    assert handshake(locked) == {"statusCode": 401}
    assert handshake(locked, Authorization="Bearer vck_wrong") == {"statusCode": 401}
    assert locked("connect", "websocket_connect", TICKET="t1") == {"statusCode": 401}
    assert locked.fakes.keys(layout.CONNECTIONS) == []


def test_connect_stores_caller(locked: Gateway) -> None:
    assert handshake(locked, Authorization=f"Bearer {key_of(locked)}") == HANDLED
    locked.say("save_voice", session_id="0" * 32, name="Nova")
    locked.say("generate_preview", voice_id="nova", text="Hello.")
    assert [message["data"]["code"] for message in locked.told()] == ["forbidden", "not_found"]


def test_connect_with_ws_ticket(locked: Gateway) -> None:
    caller = locked.run(KeyLookup(locked.fakes.resources).caller(key_of(locked)))
    ticket, _ = locked.run(ws_tickets.issue(locked.fakes.resources, caller))
    assert locked("connect", "websocket_connect", TICKET=ticket) == HANDLED
    assert locked("connect", "websocket_connect", TICKET=ticket) == {"statusCode": 401}


def test_connect_other_origin_is_refused(locked: Gateway) -> None:
    key = f"Bearer {key_of(locked)}"
    assert handshake(locked, Authorization=key, Origin="https://evil.example") == {"statusCode": 403}
    assert handshake(locked, Authorization=key, Origin="https://studio.example") == HANDLED


def test_connect_ticket_allows_any_origin(locked: Gateway) -> None:
    caller = locked.run(KeyLookup(locked.fakes.resources).caller(key_of(locked)))
    ticket, _ = locked.run(ws_tickets.issue(locked.fakes.resources, caller))
    event = recorded("websocket_connect")
    event["headers"] |= {"Origin": "https://studio.execute-api.us-east-1.amazonaws.com"}
    for shown, answer in ((ticket, HANDLED), (ticket, {"statusCode": 401}), ("", {"statusCode": 401})):
        event["queryStringParameters"] = {"ticket": shown}
        connect = locked.routes.serving(locked._process, locked.routes.connect)
        assert connect(event, Context()) == answer


def test_connect_auth_none_checks_origin(gateway: Gateway) -> None:
    event = recorded("websocket_connect")
    event["headers"] |= {"Origin": "https://evil.example"}
    event["queryStringParameters"] = {"ticket": "t1"}
    assert gateway.routes.serving(gateway._process, gateway.routes.connect)(event, Context()) == {"statusCode": 403}


def test_message_with_revoked_key_disconnects(locked: Gateway) -> None:
    key = key_of(locked)
    handshake(locked, Authorization=f"Bearer {key}")
    locked.run(api_keys.revoke(locked.fakes.resources, key.split("_")[1]))
    locked.fakes.advance(seconds=60)
    assert locked.say("generate_preview", voice_id="nova", text="Hello.") == HANDLED
    assert [message["data"]["code"] for message in locked.told()] == ["unauthorized"]
    assert locked.fakes.connections.closed == [CLIENT]


def test_message_on_unknown_connection(locked: Gateway) -> None:
    locked.say("generate_preview", voice_id="nova", text="Hello.")
    assert [message["data"]["code"] for message in locked.told()] == ["unauthorized"]
    assert locked.fakes.connections.closed == [CLIENT]


@pytest.mark.parametrize("calls", [0, 1])
def test_connect_storage_unavailable(locked: Gateway, calls: int) -> None:
    key = key_of(locked)
    locked.fakes.fail_after(calls, Unavailable)
    assert handshake(locked, Authorization=f"Bearer {key}") == {"statusCode": 503}


def test_message_generate_preview(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    assert gateway.say("generate_preview", session_id=session_id, text="Hello.") == HANDLED
    assert gateway.told() == []
    ticket = parse_queue_message(gateway.fakes.synthesis.bodies[0])
    assert ticket is not None
    request = gateway.run(jobs.read_request(gateway.fakes.resources, ticket.job_id))
    assert request is not None
    assert request.subscriber == Subscriber(reply_to=SENDER)
    assert request.correlation_id == "XfGNSG7ytjMFc6w="


def test_accepted_preview_is_confirmed(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    gateway.say("generate_preview", session_id=session_id, text="Hello.", progress=True, request_id="r1")
    (progress,) = gateway.told()
    assert (progress["type"], progress["data"]["request_id"]) == ("progress", "r1")


def test_refused_preview_is_not_confirmed(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    gateway.fakes.synthesis.switch.is_up = False
    gateway.say("generate_preview", session_id=session_id, text="Hello.", progress=True, request_id="r1")
    (error,) = gateway.told()
    assert (error["type"], error["data"]["code"], error["data"]["request_id"]) == ("error", "unavailable", "r1")


def test_response_is_posted(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    assert gateway.say("save_voice", session_id=session_id, name="Nova") == HANDLED
    (saved,) = gateway.told()
    assert (saved["type"], saved["data"]["voice_id"]) == ("voice_saved", "nova")


@pytest.mark.parametrize("body", ["", "hello", "[]", '{"type": "sing"}', '{"type": "subscribe", "data": {}}'])
def test_invalid_message_gets_error(gateway: Gateway, body: str) -> None:
    assert gateway("default", "websocket_message", BODY=body) == HANDLED
    (error,) = gateway.told()
    assert (error["type"], error["data"]["code"]) == ("error", "invalid_input")
    assert error["data"]["correlation_id"] == "XfGNSG7ytjMFc6w="


def test_binary_frame_gets_error(gateway: Gateway) -> None:
    event = recorded("websocket_message", BODY=base64.b64encode(b"\x00\xff").decode()) | {"isBase64Encoded": True}
    handler = gateway.routes.serving(gateway._process, gateway.routes.default)
    assert handler(event, Context()) == HANDLED
    assert "binary" in gateway.told()[0]["data"]["message"]


def test_disconnect_deletes_state(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    gateway.say("generate_preview", session_id=session_id, text="Hello.")
    assert gateway.fakes.keys(layout.CONNECTIONS) == [layout.connection(SENDER)]
    assert gateway("disconnect", "websocket_disconnect") == HANDLED
    assert gateway.fakes.keys(layout.CONNECTIONS) == []


def test_gone_client_state_is_deleted(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    gateway.say("generate_preview", session_id=session_id, text="Hello.")
    gateway.fakes.connections.gone.add(CLIENT)
    assert gateway.say("sing") == HANDLED
    assert gateway.fakes.keys(layout.CONNECTIONS) == []


def test_gone_client_job_continues(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    gateway.fakes.connections.gone.add(CLIENT)
    assert gateway.say("generate_preview", session_id=session_id, text="Hello.", progress=True) == HANDLED
    assert len(gateway.fakes.synthesis.bodies) == 1


def test_unreachable_client_returns_500(gateway: Gateway) -> None:
    gateway.fakes.connections.unreachable.add(CLIENT)
    assert gateway.say("sing") == {"statusCode": 500}


@pytest.mark.parametrize(
    ("route", "name"), [("disconnect", "websocket_disconnect"), ("default", "websocket_message")]
)
def test_message_storage_unavailable(gateway: Gateway, route: str, name: str) -> None:
    gateway.fakes.fail_after(0, Unavailable)
    assert gateway(route, name, BODY='{"type": "save_voice", "data": {"name": "Nova"}}') == HANDLED
    assert [message["data"]["code"] for message in gateway.told()] == ["unavailable"] * (route == "default")


def test_unexpected_error_returns_500(locked: Gateway) -> None:
    key = key_of(locked)
    locked.fakes.fail_after(0, ZeroDivisionError)
    with capture_logs() as logged:
        assert handshake(locked, Authorization=f"Bearer {key}") == {"statusCode": 500}
    assert [line["event"] for line in logged if line.get("exc_info")] == ["unexpected error"]


def test_endpoint_of_emulator() -> None:
    fakes = FakeService(Settings(aws_endpoint_url="http://127.0.0.1:4566/"))
    with process_of(fakes.resources) as process:
        gateway = Gateway(fakes, process)
        session_id = gateway.run(fakes.session())
        gateway.say("generate_preview", session_id=session_id, text="Hello.")
        ticket = parse_queue_message(fakes.synthesis.bodies[0])
        assert ticket is not None
        request = gateway.run(jobs.read_request(fakes.resources, ticket.job_id))
    assert request is not None
    assert request.subscriber is not None
    assert request.subscriber.reply_to.endpoint == "http://127.0.0.1:4566/_aws/execute-api/f6g7h8i9j0/live"


def test_connection_opened_with_version_before(gateway: Gateway) -> None:
    session_id = gateway.run(gateway.fakes.session())
    state = json.dumps({"session_id": session_id}).encode()
    old = layout.connection(SENDER.model_copy(update={"connected_at": None}))
    gateway.run(gateway.fakes.bucket.put(old, state, "application/json"))
    gateway.say("save_voice", name="Nova")
    assert gateway.told()[0]["type"] == "voice_saved"
