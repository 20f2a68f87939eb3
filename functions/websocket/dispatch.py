"""Dispatch of WebSocket messages: at most one direct response per message; results follow through events.

The local `/ws` and API Gateway's routes use the same dispatch; it keeps no state that is not in the storage.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from functions.access.access_control import AccessControl
from functions.previews.requests import WholeText, find_reference, preview_request
from functions.websocket import messages
from functions.websocket.messages import Message
from pipeline import tracing
from pipeline.access.api_keys import Caller
from pipeline.access.webhook_receivers import check_webhook
from pipeline.clients.resources import Resources
from pipeline.clients.storage import JSON, NewObject
from pipeline.contract import layout
from pipeline.contract.options import check_options
from pipeline.contract.records import ConnectionState, Failed, ReplyTo, Scope, Source, Subscriber
from pipeline.contract.strict_json import parse_json
from pipeline.contract.validation import message_of
from pipeline.domain import jobs, voice_changes
from pipeline.errors import Cancelled, ConnectionGone, InvalidInput, PipelineError, Unavailable, unavailability
from pipeline.logs import current_correlation_id

log = structlog.get_logger(__name__)

# API Gateway's limit, which the local server applies too.
MESSAGE_MAX_BYTES = 128 * 1024

# The scope that each type of message needs.
SCOPES: dict[str, Scope] = {
    "generate_preview": "preview",
    "save_voice": "voices:write",
    "subscribe": "preview",
    "cancel": "preview",
}
MESSAGE_TYPES = tuple(SCOPES)

Say = Callable[[Message], Awaitable[None]]


class _Data(BaseModel):
    # Strict, because a number is not a name; unknown fields are ignored, as JSON clients expect.
    model_config = ConfigDict(strict=True, extra="ignore")

    request_id: WholeText | None = None
    progress: bool = False


DataT = TypeVar("DataT", bound=_Data)


class _WantsPreview(_Data):
    signed: bool = False
    """Whether the response should contain a link that needs no key."""
    stream: bool = False
    """Whether the audio should be sent while it is generated."""


class GeneratePreview(_WantsPreview):
    """`generate_preview`: synthesize with the voice of an upload or a saved voice; other fields are options."""

    # Kept, because a misspelt option is rejected instead of ignored.
    model_config = ConfigDict(extra="allow")

    text: WholeText
    session_id: WholeText | None = None
    voice_id: WholeText | None = None
    webhook_url: WholeText | None = None


class SaveVoice(_Data):
    """`save_voice`: save a session's voice; without `session_id`, that of the last one used on this connection."""

    name: WholeText
    description: WholeText | None = None
    consent: WholeText | None = None
    session_id: WholeText | None = None


class Subscribe(_WantsPreview):
    """`subscribe`: be notified when a job ends, whichever client created it."""

    job_id: WholeText


class Cancel(_Data):
    """`cancel`: cancel a job."""

    job_id: WholeText


class Dispatcher:
    """Handles messages, of any number of connections."""

    def __init__(self, resources: Resources, access_control: AccessControl) -> None:
        self._resources = resources
        self._access_control = access_control

    async def answer(self, sender: ReplyTo, caller: Caller, raw: str | bytes, say: Say) -> Message | None:
        """Handle one message; return the direct response, or None if the response follows through an event.

        `say` notifies the sender of a job before the job is sent, so that the job's result can only arrive later.
        It raises `ConnectionGone` or `Unavailable` if it fails.
        """
        parsed: Message = {}
        try:
            parsed = await self._parsed(caller, raw)
            with tracing.span("request", kind="server", path="/ws"):
                return await self._route(sender, caller, parsed, say)
        except Unavailable as error:
            log.warning("unavailable", reason=error.message, cause=repr(error.__cause__))
            return messages.error(error, message=unavailability(error), request_id=_request_id(parsed))
        except PipelineError as error:
            return messages.error(error, request_id=_request_id(parsed))
        except Exception:  # a message must not end the connection
            log.exception("unexpected error")
            reason = "Something went wrong on our side; it has been logged."
            return messages.reply("error", _request_id(parsed), {"message": reason, "code": "internal_error"})

    async def forget(self, sender: ReplyTo) -> None:
        """Delete the stored state of a closed connection."""
        try:
            await self._resources.bucket.delete([layout.connection(sender.connection_id)])
        except Unavailable as error:
            log.warning("could not forget connection", reason=error.message)

    async def _parsed(self, caller: Caller, raw: str | bytes) -> Message:
        """Parse a message; an invalid one also counts towards the owner's quota of requests."""
        try:
            return _parse(raw)
        except InvalidInput:
            await self._access_control.take_request(caller)
            raise

    async def _route(self, sender: ReplyTo, caller: Caller, message: Message, say: Say) -> Message | None:
        type_ = message["type"]
        if type_ not in SCOPES:
            await self._access_control.take_request(caller)
            raise InvalidInput(f"type should be one of {', '.join(MESSAGE_TYPES)}.", field="type")
        await self._access_control.reauthorize(caller, SCOPES[type_])
        match type_:
            case "generate_preview":
                await self._generate_preview(sender, caller, _data(GeneratePreview, message), say)
                return None
            case "save_voice":
                return await self._save_voice(sender, caller, _data(SaveVoice, message))
            case "cancel":
                return await self._cancel(sender, caller, _data(Cancel, message))
            case _:
                return await self._subscribe(sender, caller, _data(Subscribe, message), say)

    async def _generate_preview(self, sender: ReplyTo, caller: Caller, data: GeneratePreview, say: Say) -> None:
        if (data.session_id is None) == (data.voice_id is None):
            raise InvalidInput("Give either session_id or voice_id.", field="session_id")
        resources = self._resources
        text = jobs.check_text(data.text, resources.settings, field="text")
        source = Source(session_id=data.session_id, voice_id=data.voice_id, owner=caller.owner)
        options = check_options(data.model_extra or {})
        await check_webhook(resources, caller.owner, data.webhook_url)
        reference = await find_reference(resources, source)
        request = preview_request(
            resources,
            source,
            reference,
            text,
            options,
            correlation_id=current_correlation_id(),
            webhook_url=data.webhook_url,
        )
        request = request.model_copy(update={"subscriber": _subscriber(sender, data)})
        objects = [_connection(sender, caller, data.session_id)] if data.session_id else []
        await jobs.prepare(resources, request, objects)
        if data.progress:
            # Before the job is sent: its result, which another process delivers, can then only arrive later.
            await self._announce(say, data, request.job_id)
        await jobs.submit(resources, request)

    async def _save_voice(self, sender: ReplyTo, caller: Caller, data: SaveVoice) -> Message:
        session_id = data.session_id or await self._last_session(sender)
        if session_id is None:
            raise InvalidInput(
                "No session was used on this connection yet; give the session_id to save.", field="session_id"
            )
        voice = await voice_changes.save(
            self._resources, caller.owner, session_id, data.name, data.description or "", data.consent or ""
        )
        saved = {"voice_id": voice.voice_id, "name": voice.name, "description": voice.description}
        return messages.reply("voice_saved", data.request_id, saved)

    async def _subscribe(self, sender: ReplyTo, caller: Caller, data: Subscribe, say: Say) -> Message | None:
        job = await jobs.read(self._resources, caller.owner, data.job_id)
        outcome, subscriber = job.outcome, _subscriber(sender, data)
        if outcome is None:
            if data.progress:
                await self._announce(say, data, job.job_id)
            # Subscribe first, then read the job again, so that an outcome written in between is not missed.
            key = layout.subscriber(job.job_id, sender.connection_id)
            await self._resources.bucket.put(key, subscriber.to_json(), JSON)
            outcome = await jobs.read_outcome(self._resources, job.job_id)
        return await messages.completion(self._resources, outcome, subscriber) if outcome else None

    async def _cancel(self, sender: ReplyTo, caller: Caller, data: Cancel) -> Message:
        outcome = (await jobs.cancel(self._resources, caller.owner, data.job_id)).outcome
        if outcome is None or (isinstance(outcome, Failed) and outcome.code == Cancelled.code):
            return messages.reply("cancelled", data.request_id, {"job_id": data.job_id})
        subscriber = Subscriber(reply_to=sender, request_id=data.request_id)
        return await messages.completion(self._resources, outcome, subscriber)

    async def _announce(self, say: Say, data: _Data, job_id: str) -> None:
        try:
            await say(messages.progress(data.request_id, job_id))
        except (ConnectionGone, Unavailable) as error:  # the job continues without it
            log.info("could not tell of progress", job_id=job_id, reason=error.message)

    async def _last_session(self, sender: ReplyTo) -> str | None:
        body = await self._resources.bucket.get(layout.connection(sender.connection_id))
        return ConnectionState.model_validate_json(body).session_id if body else None


def _subscriber(sender: ReplyTo, data: _WantsPreview) -> Subscriber:
    return Subscriber(reply_to=sender, request_id=data.request_id, signed=data.signed, stream=data.stream)


def _connection(sender: ReplyTo, caller: Caller, session_id: str) -> NewObject:
    """Return the object that stores the session last used on a connection."""
    state = connection_state(caller).model_copy(update={"session_id": session_id})
    return NewObject(layout.connection(sender.connection_id), state.to_json(), JSON)


def connection_state(caller: Caller) -> ConnectionState:
    """Return the state to store for the caller that opened a connection."""
    return ConnectionState(owner=caller.owner, key_id=caller.key_id, scopes=tuple(sorted(caller.scopes)))


def caller_remembered(state: ConnectionState) -> Caller:
    """Return the caller that opened the connection with this state."""
    return Caller(state.owner, state.key_id, frozenset(state.scopes))


def _parse(raw: str | bytes) -> Message:
    if isinstance(raw, bytes):
        raise InvalidInput("Messages should be text frames holding JSON; this was binary.")
    if len(raw) > MESSAGE_MAX_BYTES or len(raw.encode("utf-8", "surrogatepass")) > MESSAGE_MAX_BYTES:
        raise InvalidInput(f"Messages should have at most {MESSAGE_MAX_BYTES // 1024} KB.")
    try:
        message = parse_json(raw)
    except ValueError as error:
        raise InvalidInput(f'The message {error} Messages are such as {{"type": "…", "data": {{…}}}}.') from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidInput("Messages should be JSON objects with a type, a string.", field="type")
    return message


def _data(type_: type[DataT], message: Message) -> DataT:
    try:
        return type_.model_validate(message.get("data", {}))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "data"
        raise InvalidInput(f"{field} {message_of(problem)}.", field=field) from error


def refusal(error: PipelineError) -> Message:
    """Return the message for a client that is not authorized to send messages."""
    return messages.error(error)


def _request_id(message: Message) -> str | None:
    sent = message.get("data")
    request_id = sent.get("request_id") if isinstance(sent, dict) else None
    return request_id if isinstance(request_id, str) else None
