"""Creation of preview requests from client input, for HTTP and WebSocket."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from pipeline.access.owners import new_id
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import NewReference, Options, Request, Source, Subscriber, VoiceMetadata
from pipeline.domain import jobs, sessions, voices
from pipeline.domain.consents import kept, policy
from pipeline.telemetry.logs import current_correlation_id, current_key_id
from pipeline.telemetry.tracing import current_traceparent


def _check_whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("should not contain half of a surrogate pair") from None
    return text


# JSON can represent lone surrogates, which UTF-8 can't encode.
WholeText = Annotated[str, AfterValidator(_check_whole)]


@dataclass(frozen=True, slots=True)
class ReferenceAt:
    """The reference that a request names, its folder if it is a saved voice's, and the consent, if there is one."""

    reference_id: str
    folder: str | None = None
    consent: policy.Consent = None


def reference_of(voice: VoiceMetadata) -> ReferenceAt:
    """Return the reference of a saved voice."""
    return ReferenceAt(voice.reference_id, layout.voice_files(voice).folder, voice.consent)


async def find_reference(resources: Resources, source: Source) -> ReferenceAt:
    """Return the reference of a source, if it can be used now.

    Raises
    ------
    InvalidInput, NotFound, Expired, InvalidAudio
        It can't be used.
    """
    if source.session_id is not None:
        await sessions.require(resources, source.owner, source.session_id)
        if resources.settings.consent != "require":
            return ReferenceAt(source.session_id)
        stored = await kept.of_session(resources, source.owner, source.session_id)
        return ReferenceAt(source.session_id, consent=stored.record if stored else None)
    return reference_of(await voices.get(resources, source.owner, source.voice_id or ""))


def preview_request(
    resources: Resources,
    source: Source,
    reference: ReferenceAt,
    text: str,
    options: Options,
    *,
    subscriber: Subscriber | None = None,
    new_reference: NewReference | None = None,
    webhook_url: str | None = None,
) -> Request:
    """Return the request to synthesize a validated text.

    Raises
    ------
    ConsentRequired
        The reference has no consent for this use, and `CONSENT` is `require`.
    """
    field = "voice_id" if source.voice_id else "session_id"
    policy.check(resources, reference.consent, options.language, field=field)
    return Request(
        job_id=new_id(resources.new_id, source.owner),
        kind="preview",
        source=source,
        reference_id=reference.reference_id,
        reference_folder=reference.folder,
        text=text,
        options=options,
        created_at=resources.clock(),
        correlation_id=current_correlation_id(),
        key_id=current_key_id(),
        traceparent=current_traceparent(),
        subscriber=subscriber,
        new_reference=new_reference,
        webhook_url=webhook_url,
    )


def queued(request: Request) -> jobs.Job:
    """Return the job of a request that has just been accepted."""
    return jobs.Job(request.job_id, "queued", request.source, request.created_at, None)
