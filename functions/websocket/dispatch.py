"""Dispatch of WebSocket messages: at most one direct response per message; results follow through events.

The local `/ws` and API Gateway's routes use the same dispatch; it keeps no state that is not in the storage.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
from structlog.contextvars import bound_contextvars

from functions.access.access_control import AccessControl
from functions.previews.fair_turns import FairTurns
from functions.previews.queue_depth import QueueDepth
from functions.previews.requests import find_reference, preview_request
from functions.websocket import client_messages, server_messages
from functions.websocket.client_messages import Cancel, ClientMessage, GeneratePreview, SaveVoice, Subscribe
from functions.websocket.server_messages import Message
from pipeline.access.api_keys import Caller
from pipeline.access.webhook_receivers import check_webhook
from pipeline.audio.output_formats import FORMATS, check_installed
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.options import check_options
from pipeline.contract.records import ConnectionState, Failed, ReplyTo, Source, Subscriber
from pipeline.domain import acceptance, jobs, voice_changes
from pipeline.errors import Cancelled, ConnectionGone, InvalidInput, PipelineError, Unavailable, unavailability
from pipeline.telemetry import tracing

log = structlog.get_logger(__name__)

Send = Callable[[Message], Awaitable[None]]


class Dispatcher:
    """Handles messages, of any number of connections."""

    def __init__(self, resources: Resources, access_control: AccessControl, turns: FairTurns) -> None:
        self._resources = resources
        self._access_control = access_control
        self._turns = turns
        self._queue_depth = QueueDepth(resources)

    async def handle(self, sender: ReplyTo, caller: Caller, raw: str | bytes, send: Send) -> Message | None:
        """Handle one message; return the direct response, or None if the response follows through an event.

        `send` sends the message that a job is queued. It raises `ConnectionGone` or `Unavailable` if it fails.
        """
        parsed: Message = {}
        try:
            try:
                parsed = client_messages.parse(raw)
                model = client_messages.model_for(parsed)
                client_messages.check_fields(parsed)
            except InvalidInput:
                await self._access_control.take_request(caller)  # it counts towards the owner's quota too
                raise
            bound = {"key_id": caller.key_id} if caller.key_id else {}
            with tracing.span("request", kind="server", path="/ws"), bound_contextvars(**bound):
                await self._access_control.reauthorize(caller, model.scope)
                return await self._route(sender, caller, client_messages.validated(model, parsed), send)
        except Unavailable as error:
            log.warning("unavailable", reason=error.message, cause=repr(error.__cause__))
            request_id = client_messages.request_id_of(parsed)
            return server_messages.error(error, message=unavailability(error), request_id=request_id)
        except PipelineError as error:
            return server_messages.error(error, request_id=client_messages.request_id_of(parsed))
        except Exception:  # a message must not end the connection
            log.exception("unexpected error")
            message = "Something went wrong on our side; it has been logged."
            request_id = client_messages.request_id_of(parsed)
            return server_messages.failure(message, "internal_error", request_id=request_id)

    async def forget(self, sender: ReplyTo) -> None:
        """Delete the stored state of a closed connection."""
        try:
            await self._resources.bucket.delete([layout.connection(sender)])
        except Unavailable as error:
            log.warning("could not forget connection", reason=error.message)

    async def _route(self, sender: ReplyTo, caller: Caller, data: ClientMessage, send: Send) -> Message | None:
        match data:
            case GeneratePreview():
                await self._generate_preview(sender, caller, data, send)
                return None
            case SaveVoice():
                return await self._save_voice(sender, caller, data)
            case Cancel():
                return await self._cancel(sender, caller, data)
            case Subscribe():
                return await self._subscribe(sender, caller, data, send)
            case _:
                raise AssertionError(f"{type(data).__name__} has no handler")

    async def _generate_preview(self, sender: ReplyTo, caller: Caller, data: GeneratePreview, send: Send) -> None:
        if (data.session_id is None) == (data.voice_id is None):
            raise InvalidInput("Give either session_id or voice_id.", field="session_id")
        resources = self._resources
        text = acceptance.check_text(data.text, resources.settings, field="text")
        source = Source(session_id=data.session_id, voice_id=data.voice_id, owner=caller.owner)
        options = check_options(data.model_extra or {})
        check_installed(replace(FORMATS[data.format], speed=data.speed))
        await check_webhook(resources, caller.owner, data.webhook_url)
        await self._queue_depth.require_room(read_first=True)
        reference = await find_reference(resources, source)
        request = preview_request(
            resources,
            source,
            reference,
            text,
            options,
            webhook_url=data.webhook_url,
        )
        request = request.model_copy(update={"subscriber": _subscriber(sender, data)})
        objects = [_connection(sender, caller, data.session_id)] if data.session_id else []
        async with self._turns.turn(caller.owner):
            await acceptance.accept(resources, request, objects)
        if data.progress:
            await self._send_queued(send, data, request.job_id)

    async def _save_voice(self, sender: ReplyTo, caller: Caller, data: SaveVoice) -> Message:
        session_id = data.session_id or await self._last_session(sender)
        if session_id is None:
            raise InvalidInput(
                "No session was used on this connection yet; give the session_id to save.", field="session_id"
            )
        voice = await voice_changes.save(
            self._resources, caller.owner, session_id, data.name, data.description or "", data.consent or ""
        )
        return server_messages.voice_saved(data.request_id, voice)

    async def _subscribe(self, sender: ReplyTo, caller: Caller, data: Subscribe, send: Send) -> Message | None:
        job = await jobs.read(self._resources, caller.owner, data.job_id)
        outcome, subscriber = job.outcome, _subscriber(sender, data)
        if outcome is None:
            if data.progress:
                await self._send_queued(send, data, job.job_id)
            # Subscribe first, then read the job again, so that an outcome written in between is not missed.
            key = layout.subscriber(job.job_id, sender.connection_id)
            await self._resources.bucket.put(key, subscriber.to_json(), JSON)
            outcome = await jobs.read_outcome(self._resources, job.job_id)
        return await server_messages.completion(self._resources, outcome, subscriber) if outcome else None

    async def _cancel(self, sender: ReplyTo, caller: Caller, data: Cancel) -> Message:
        outcome = (await jobs.cancel(self._resources, caller.owner, data.job_id)).outcome
        if outcome is None or (isinstance(outcome, Failed) and outcome.code == Cancelled.code):
            return server_messages.cancelled(data.request_id, data.job_id)
        subscriber = Subscriber(reply_to=sender, request_id=data.request_id)
        return await server_messages.completion(self._resources, outcome, subscriber)

    async def _send_queued(self, send: Send, data: ClientMessage, job_id: str) -> None:
        try:
            await send(server_messages.queued(data.request_id, job_id))
        except (ConnectionGone, Unavailable) as error:  # the job continues without it
            log.info("could not send progress", job_id=job_id, reason=error.message)

    async def _last_session(self, sender: ReplyTo) -> str | None:
        state = await stored_state(self._resources, sender)
        return state.session_id if state else None


def _subscriber(sender: ReplyTo, data: GeneratePreview | Subscribe) -> Subscriber:
    return Subscriber(
        reply_to=sender,
        request_id=data.request_id,
        signed=data.signed,
        stream=data.stream,
        format=data.format,
        speed=data.speed,
    )


def _connection(sender: ReplyTo, caller: Caller, session_id: str) -> NewObject:
    """Return the object that stores the session last used on a connection."""
    state = connection_state(caller).model_copy(update={"session_id": session_id})
    return NewObject(layout.connection(sender), state.to_json(), JSON)


def connection_state(caller: Caller) -> ConnectionState:
    """Return the state to store for the caller that opened a connection."""
    return ConnectionState(owner=caller.owner, key_id=caller.key_id, scopes=tuple(sorted(caller.scopes)))


async def stored_state(resources: Resources, client: ReplyTo) -> ConnectionState | None:
    """Return the stored state of a connection, or None if there is none."""
    body = await resources.bucket.get(layout.connection(client))
    if body is None and client.connected_at:  # the connection may have been opened with version 0.1
        body = await resources.bucket.get(layout.connection(client.model_copy(update={"connected_at": None})))
    return ConnectionState.model_validate_json(body) if body else None


def caller_of(state: ConnectionState) -> Caller:
    """Return the caller that opened the connection with this state."""
    return Caller(state.owner, state.key_id, frozenset(state.scopes))
