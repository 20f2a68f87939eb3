"""The messages that clients send: their models, which the AsyncAPI document is made from, and their parsing."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from functions.previews.requests import WholeText
from pipeline.audio.output_formats import FASTEST, SLOWEST, FormatName
from pipeline.contract.records import Scope
from pipeline.contract.strict_json import parse_json
from pipeline.errors import InvalidInput, validation_field, validation_message

# API Gateway's limit, which the local server applies too.
MESSAGE_MAX_BYTES = 128 * 1024

Message = dict[str, Any]


class ClientMessage(BaseModel):
    """The `data` of a message; `scope` is the scope that its sender needs."""

    # Strict: a number is not a name.  Unknown fields are ignored, as JSON clients expect.
    model_config = ConfigDict(strict=True, extra="ignore")

    scope: ClassVar[Scope] = "preview"

    request_id: WholeText | None = None
    progress: bool = False


class _WithResult(ClientMessage):
    format: FormatName = "wav"
    """The format of the audio at `audio_url`."""
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST)
    """The speed of the audio at `audio_url`, without a change of its pitch."""
    signed: bool = False
    """Whether the result should contain a URL that needs no key."""
    stream: bool = False
    """Whether the audio should be sent while it is generated."""


class GeneratePreview(_WithResult):
    """`generate_preview`: synthesize with the voice of an upload or a saved voice; other fields are options."""

    # Options are kept here and validated later, so that an unknown option is rejected.
    model_config = ConfigDict(extra="allow")

    text: WholeText
    session_id: WholeText | None = None
    voice_id: WholeText | None = None
    webhook_url: WholeText | None = None


class SaveVoice(ClientMessage):
    """`save_voice`: save a session's voice; the default is the session last used on this connection."""

    scope: ClassVar[Scope] = "voices:write"

    name: WholeText
    description: WholeText | None = None
    consent: WholeText | None = None
    session_id: WholeText | None = None


class Subscribe(_WithResult):
    """`subscribe`: be notified when a job ends, including jobs of other clients."""

    job_id: WholeText


class Cancel(ClientMessage):
    """`cancel`: cancel a job."""

    job_id: WholeText


CLIENT_MESSAGES: Mapping[str, type[ClientMessage]] = {
    "generate_preview": GeneratePreview,
    "save_voice": SaveVoice,
    "subscribe": Subscribe,
    "cancel": Cancel,
}

_FIELDS = ("type", "request_id", "data")
DataT = TypeVar("DataT", bound=ClientMessage)


def parse(raw: str | bytes) -> Message:
    """Parse a frame into a JSON object that has a type, and no fields besides `request_id` and `data`.

    Raises
    ------
    InvalidInput
        The frame is binary, too large, or has no such object.
    """
    if isinstance(raw, bytes):
        raise InvalidInput("The message is a binary frame; messages should be text frames with JSON.")
    if len(raw) > MESSAGE_MAX_BYTES or len(raw.encode("utf-8", "surrogatepass")) > MESSAGE_MAX_BYTES:
        raise InvalidInput(f"The message is too large; it should have at most {MESSAGE_MAX_BYTES // 1024} KB.")
    try:
        message = parse_json(raw)
    except ValueError as error:
        raise InvalidInput(f'The message {error} Messages are such as {{"type": "…", "data": {{…}}}}.') from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidInput("Messages should be JSON objects with a type, a string.", field="type")
    return message


def check_fields(message: Message) -> None:
    """Check the fields beside `data`.

    Raises
    ------
    InvalidInput
        There is an unknown field, or `request_id` is given twice, with different values.
    """
    if unknown := [name for name in message if name not in _FIELDS]:
        name = unknown[0][:64]
        raise InvalidInput(
            f"{name} is no field of a message, which has {', '.join(_FIELDS)}; other fields belong into data.",
            field=name,
        )
    data = message.get("data")
    if "request_id" in message and isinstance(data, dict):
        if data.get("request_id", message["request_id"]) != message["request_id"]:
            raise InvalidInput("request_id has different values in the message and its data.", field="request_id")
        data["request_id"] = message["request_id"]


def model_for(message: Message) -> type[ClientMessage]:
    """Return the model of a message's data.

    Raises
    ------
    InvalidInput
        The type is unknown.
    """
    model = CLIENT_MESSAGES.get(message["type"])
    if model is None:
        raise InvalidInput(f"type should be one of {', '.join(CLIENT_MESSAGES)}.", field="type")
    return model


def validated(model: type[DataT], message: Message) -> DataT:
    """Return the data of a message.

    Raises
    ------
    InvalidInput
        The data is not valid; `field` is the first invalid field.
    """
    try:
        return model.model_validate(message.get("data", {}))
    except ValidationError as error:
        problem = error.errors()[0]
        field = validation_field(problem["loc"]) or "data"
        raise InvalidInput(f"{field} {validation_message(problem)}.", field=field) from error


def request_id_of(message: Message) -> str | None:
    """Return the `request_id` of a message, which may be invalid otherwise."""
    data = message.get("data")
    request_id = (data.get("request_id") if isinstance(data, dict) else None) or message.get("request_id")
    return request_id if isinstance(request_id, str) else None
