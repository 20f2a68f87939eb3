"""`/asyncapi.json`: the messages of the WebSocket, of a job's events and of webhooks, as an AsyncAPI 3 document."""

from collections.abc import Iterable
from functools import cache
from inspect import getdoc
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from functions.websocket.client_messages import CLIENT_MESSAGES
from functions.websocket.server_messages import SERVER_MESSAGES
from pipeline import __version__
from pipeline.contract.records import Options

# What each channel carries to clients, by the names of the messages.
EVENTS = ("queued", "started", "generating", "tts_complete", "embedding_complete", "reference_checked", "error")
WEBHOOKS = {name: f"{name}_webhook" for name in ("tts_complete", "error")}

Schema = dict[str, Any]


@cache
def document() -> Schema:
    """Return the document, generated from the models of the messages."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Voice cloning service",
            "version": __version__,
            "description": "The messages besides requests and responses, which /openapi.json describes.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": _channel("/ws", "The WebSocket", [*CLIENT_MESSAGES, *SERVER_MESSAGES]),
            "events": {
                **_channel(
                    "/jobs/{job_id}/events", "A job's events (server-sent events): `data` is the message", EVENTS
                ),
                "parameters": {"job_id": {"description": "The job"}},
            },
            "webhook": _channel(
                None, "The URL that a request named as webhook_url, or its owner's", WEBHOOKS.values()
            ),
        },
        "operations": {
            "receive": _operation("receive", "socket", CLIENT_MESSAGES),
            "send": _operation("send", "socket", SERVER_MESSAGES),
            "sendEvents": _operation("send", "events", EVENTS),
            "sendWebhook": _operation("send", "webhook", WEBHOOKS.values()),
        },
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
        },
    }


def _channel(address: str | None, description: str, messages: Iterable[str]) -> Schema:
    refs = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {"address": address, "description": description, "messages": refs}


def _operation(action: str, channel: str, messages: Iterable[str]) -> Schema:
    refs = [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages]
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "messages": refs}


def _messages() -> Schema:
    sent = {name: _client_message(name, model) for name, model in CLIENT_MESSAGES.items()}
    received = {name: _message(name, type_, model) for name, (type_, model) in SERVER_MESSAGES.items()}
    signed = {"headers": {"$ref": "#/components/schemas/WebhookHeaders"}}
    webhooks = {webhook: received[name] | signed for name, webhook in WEBHOOKS.items()}
    return sent | received | webhooks


def _client_message(name: str, model: type[BaseModel]) -> Schema:
    message = _message(name, name, model)
    request_id = {"type": "string", "description": "Repeated in responses; it can be in `data` instead"}
    message["payload"]["properties"]["request_id"] = request_id
    message["payload"]["additionalProperties"] = False
    return message


def _message(name: str, type_: str, model: type[BaseModel]) -> Schema:
    data = {"$ref": f"#/components/schemas/{model.__name__}"}
    properties = {"type": {"const": type_}, "data": data}
    summary = (getdoc(model) or "").partition("\n")[0]
    payload = {"type": "object", "required": ["type", "data"], "properties": properties}
    return {"name": name, "summary": summary, "payload": payload}


def _schemas() -> Schema:
    received: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for _, model in SERVER_MESSAGES.values()
    ]
    from_clients: list[type[BaseModel]] = [*CLIENT_MESSAGES.values(), Options]
    sent: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in from_clients]
    _, found = models_json_schema([*received, *sent], ref_template="#/components/schemas/{model}")
    schemas: Schema = found["$defs"]
    # The options are further fields of this message; any other is refused.
    schemas["GeneratePreview"]["properties"] |= schemas.pop("Options")["properties"]
    schemas["GeneratePreview"]["additionalProperties"] = False
    return schemas | {"WebhookHeaders": _WEBHOOK_HEADERS}


_WEBHOOK_HEADERS: Schema = {
    "type": "object",
    "description": "Standard Webhooks; see docs/webhooks.md",
    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "properties": {
        "webhook-id": {"type": "string", "description": "The job's id, the same at every attempt"},
        "webhook-timestamp": {"type": "string", "description": "Seconds since 1970 of this attempt"},
        "webhook-signature": {"type": "string", "description": "`v1,` and base64, for each valid secret"},
    },
}
