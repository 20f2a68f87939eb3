"""The objects that are stored and sent, as immutable, validated models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import structlog
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.contract.languages import language_named
from pipeline.settings import Mark

log = structlog.get_logger(__name__)


def format_utc(moment: datetime) -> str:
    """Return a moment in the format of all responses: ISO 8601, UTC, whole seconds, `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


UtcSeconds = Annotated[AwareDatetime, PlainSerializer(format_utc, return_type=str, when_used="json-unless-none")]


class Record(BaseModel):
    """Stored data: unknown fields are ignored so that different versions can run at the same time."""

    # Built at first use: no process uses all of them, and this shortens a function's cold start.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    def to_json(self) -> bytes:
        """Return the record as UTF-8 JSON."""
        return self.model_dump_json(exclude_none=True).encode()

    @classmethod
    def parse_stored(cls, body: bytes | None, **context: str) -> Self | None:
        """Parse a stored record. Return None if there is none, or if it is damaged, which is logged."""
        try:
            return None if body is None else cls.model_validate_json(body)
        except ValidationError as error:
            # The error quotes the input, which must not be logged.
            log.error("record can't be parsed", record=cls.__name__, wrong_fields=error.error_count(), **context)  # noqa: TRY400
            return None


# The permissions of keys. `admin` includes all scopes.
Scope = Literal["preview", "voices:write", "admin"]


class Options(Record):
    """Options of the synthesis. None: the model's default."""

    language: str = Field("Auto", description="name of the language, or a BCP 47 tag such as `en` or `zh-CN`")
    seed: int | None = Field(None, ge=0, lt=2**53, description="same seed, same audio, on one kind of device")
    temperature: float | None = Field(None, ge=0, le=2, description="0: always the most likely token")
    top_k: int | None = Field(None, ge=0, le=4096, description="number of tokens to sample from, 0: all")
    top_p: float | None = Field(None, gt=0, le=1, description="share of the probability to sample from")
    repetition_penalty: float | None = Field(None, ge=1, le=2, description="1: none")
    max_seconds: float | None = Field(None, ge=1, le=3600, description="maximum length of the audio")
    non_streaming_mode: bool | None = Field(None, description="the model reads the whole text before it speaks")

    @field_validator("language", mode="before")
    @classmethod
    def _by_name_or_tag(cls, value: object) -> object:
        return language_named(value)


class Source(Record):
    """The voice to use: that of an upload, or a saved voice."""

    session_id: str | None = None
    voice_id: str | None = None
    owner: str | None = Field(None, description="owner of the voice, None without authentication")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.session_id is None) == (self.voice_id is None):
            raise ValueError("a source is either a session_id or a voice_id")
        return self


class ReplyTo(Record):
    """The connection of a client, and the key it was authenticated by, if any."""

    endpoint: str
    connection_id: str
    connected_at: AwareDatetime | None = Field(None, description="None: unknown, as in version 0.1")
    key_id: str | None = None
    base_url: str | None = Field(None, description="address at which the client uses the API, for links")
    takes_batches: bool = Field(False, description="the endpoint accepts `message_batches`")


class NewReference(Record):
    """Marks a reference that was sent with this request, so that no prompt can be stored for it yet."""

    transcription: str


class Subscriber(Record):
    """A client to notify when a job ends: its creator, or a later subscriber (`jobs/<job_id>/subscribers/`)."""

    reply_to: ReplyTo
    interface: Literal["websocket", "http"] = Field(
        "websocket", description="`http`: a request that waits for the job, and reads the outcome itself"
    )
    request_id: str | None = None
    signed: bool = Field(False, description="add a link that needs no key to the notification")
    stream: bool = Field(False, description="send the audio while it is generated, see `stream_messages`")
    progress: bool = Field(False, description="send the length of the generated audio, without the audio")
    format: str = Field("wav", description="the format of the audio at the URL in the notification")
    speed: float = Field(1.0, description="the speed of that audio")


class _MadeBySubscriber(Record):
    """The fields for the job's creator, common to a request and its outcome."""

    subscriber: Subscriber | None = None
    key_id: str | None = Field(None, description="API key of the client, if any")

    @model_validator(mode="before")
    @classmethod
    def _read_version_before(cls, data: Any) -> Any:
        """Convert a record of the previous version, which has the subscriber's fields at the top level."""
        if isinstance(data, dict) and data.get("reply_to") and "subscriber" not in data:
            return data | {"subscriber": data}
        return data


class Envelope(_MadeBySubscriber):
    """The fields of a request that all versions have in common: enough to describe the job and to end it."""

    job_id: str
    kind: str
    source: Source
    created_at: AwareDatetime
    correlation_id: str | None = None
    webhook_url: str | None = Field(None, description="receiver of a webhook when the job has ended")
    traceparent: str | None = Field(None, description="span of its creation, if it is traced")
    reference_id: str | None = None


class Request(Envelope):
    """`jobs/<job_id>/request.json`: one piece of work for a worker, written once."""

    kind: Literal["preview", "embedding", "check", "consent"]
    text: str = ""
    options: Options = Options()
    reference_id: str = Field(
        description="session of the reference, which is another one for a later voice with the same id"
    )
    reference_folder: str | None = Field(None, description="folder of a saved voice's reference")
    new_reference: NewReference | None = None


# How a job's audio ended: by itself, cut off, by itself after a new attempt with another seed, or not at all.
FinishReason = Literal["stop", "length", "retried", "cancelled"]


class Timings(Record):
    """How long the steps of a job took, in seconds."""

    queued_seconds: float
    synthesis_seconds: float
    real_time_factor: float = Field(description="seconds of synthesis per second of audio")
    first_audio_seconds: float | None = Field(None, description="from the request to the first audio")


class SynthesisReport(Record):
    """Metadata of `audio/previews/<job_id>.wav`: the part of the outcome that the audio does not contain."""

    timings: Timings
    warnings: tuple[str, ...] = ()
    finish_reason: FinishReason | None = None
    audio_sha256: str | None = None
    take: str | None = None
    marks: tuple[Mark, ...] = ()


REPORT_METADATA = "report"  # the name of the object metadata with the `SynthesisReport`


def report_of(metadata: Mapping[str, str]) -> SynthesisReport | None:
    """Return the report in the metadata of a stored preview, if there is one."""
    report = metadata.get(REPORT_METADATA)
    return SynthesisReport.model_validate_json(report) if report else None


class _OutcomeFields(_MadeBySubscriber):
    """The fields of every outcome, including those of its request, so that notifying the client needs one read."""

    job_id: str
    kind: str
    source: Source
    created_at: AwareDatetime
    completed_at: AwareDatetime
    correlation_id: str | None = None
    webhook_url: str | None = None
    traceparent: str | None = None
    finish_reason: FinishReason | None = None


class Preview(Record):
    """The audio that a job generated."""

    key: str
    sample_rate: int
    duration_seconds: float
    expires_at: AwareDatetime


class ReferenceWarning(Record):
    """A fault of a reference recording."""

    code: str = Field(description="stable name of the fault, such as `noise`")
    message: str = Field(description="what was found")
    advice: str = Field(description="how to avoid it")


class ReferenceCheck(Record):
    """The result of the checks of a reference recording: `audio/uploads/<session_id>/check.json`."""

    warnings: tuple[ReferenceWarning, ...] = ()
    unavailable: tuple[str, ...] = Field((), description="checks whose packages the worker lacks")
    measures: dict[str, float] = Field(default_factory=dict, description="values of the measures by name")
    suggested_transcription: str | None = Field(
        None, description="words recognized as English, if no transcription was given. They may be wrong"
    )


class JobAnalysis(Record):
    """`jobs/<job_id>/analysis.json`: what was measured for a preview after its outcome was written."""

    reference_check: ReferenceCheck | None = None
    speaker_similarity: float | None = Field(
        None, description="cosine of the speaker embeddings of the audio and the reference, at most 1"
    )


class Succeeded(JobAnalysis, _OutcomeFields):
    """The job succeeded. `preview` is None for a job that generated no audio."""

    status: Literal["succeeded"] = "succeeded"
    preview: Preview | None = None
    timings: Timings | None = None
    warnings: tuple[str, ...] = ()
    audio_sha256: str | None = Field(None, description="of the stored WAV")
    take: str | None = Field(None, description="of the stored audio, as in stream messages. None: an older worker")
    marks: tuple[Mark, ...] = Field((), description="Marks in the samples of the preview")


class Failed(_OutcomeFields):
    """The job failed. Code, message and field are for the client."""

    status: Literal["failed"] = "failed"
    code: str
    message: str
    field: str | None = None


Outcome = Succeeded | Failed
_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(
    Annotated[Outcome, Field(discriminator="status")], config=ConfigDict(defer_build=True)
)


def parse_outcome(body: bytes) -> Outcome:
    """Parse an `outcome.json`."""
    return _OUTCOME.validate_json(body)


def outcome_fields(request: Envelope, completed_at: datetime) -> dict[str, Any]:
    """Return the fields that an outcome copies from its request."""
    shared = request.model_dump(include=set(_OutcomeFields.model_fields) & set(Envelope.model_fields))
    return shared | {"completed_at": completed_at}


class ConsentCheck(Record):
    """How the recording of a consent was compared with its statement and with the reference."""

    checked_at: UtcSeconds
    words: float | None = Field(
        None, description="share of the statement that was recognized, None if not compared"
    )
    words_min: float
    wrong_digits: int | None = Field(None, description="digits of the code that were not recognized")
    wrong_digits_max: int
    speaker: float | None = Field(None, description="similarity to the speaker of the reference, at most 1")
    speaker_min: float

    @property
    def is_passed(self) -> bool:
        """Whether words, code and speaker were compared and are within their limits."""
        if self.words is None or self.wrong_digits is None or self.speaker is None:
            return False
        return (
            self.words >= self.words_min
            and self.wrong_digits <= self.wrong_digits_max
            and self.speaker >= self.speaker_min
        )


class ConsentReview(Record):
    """The decision of an administrator who has listened to the recording of a consent."""

    decision: Literal["accepted", "rejected"]
    reviewed_at: UtcSeconds
    key_id: str | None = None
    note: str = ""


ConsentStatus = Literal["unverified", "verified", "accepted", "rejected"]


class _Consent(Record):
    language: str | None = Field(None, description="language of the statement")
    person: str | None = None
    purposes: tuple[str, ...] = ()
    languages: tuple[str, ...] = Field((), description="languages that the voice may speak, empty for all")
    expires_at: UtcSeconds | None = None
    operator: str | None = None
    reference_sha256: str | None = Field(None, description="SHA-256 of the reference's WAV file, in hex")
    recording_sha256: str | None = Field(None, description="SHA-256 of the recording's WAV file, in hex")
    check: ConsentCheck | None = None
    review: ConsentReview | None = None
    token_sha256: str | None = Field(None, description="SHA-256 of the token in the speaker's links, in hex")

    @property
    def status(self) -> ConsentStatus:
        """The review's decision, or else whether the check was passed."""
        if self.review is not None:
            return self.review.decision
        return "verified" if self.check is not None and self.check.is_passed else "unverified"


class KeptConsent(_Consent):
    """The copy of its speaker's consent that a voice keeps: text, time, and the key of the recording, if any."""

    consent_id: str | None = None
    text: str
    given_at: UtcSeconds
    recording_file: str | None = None


class RecordedConsent(_Consent):
    """`audio/uploads/<consent_id>/consent.json`: a recorded consent, kept as long as an upload."""

    name: str
    language: str
    text: str = Field("", description="statement, or transcription of the recording if it was given")
    code: str | None = Field(None, description="digits at the end of the statement")
    reference: Source | None = None
    created_at: UtcSeconds
    given_at: UtcSeconds | None = Field(None, description="when the recording was stored")


class VoiceOfConsent(Record):
    """`consents/<consent_id>/<voice_id>.json`: a voice that keeps the consent."""

    voice_id: str
    owner: str | None = None


class ImportedVoice(Record):
    """Where an imported voice came from."""

    voice_id: str = Field(description="its id where it was exported")
    created_at: UtcSeconds
    signer: str = Field(description="id of the key that signed the bundle: the start of its SHA-256, in hex")
    is_trusted: bool = Field(description="whether the key is this installation's, or is in `BUNDLE_TRUSTED_KEYS`")


class VoiceMetadata(Record):
    """A saved voice's `metadata.json`."""

    voice_id: str
    name: str
    description: str = ""
    created_at: UtcSeconds
    source_file: str
    embedding_file: str
    transcription_file: str | None = None
    duration_seconds: float | None = None
    sample_rate: int | None = None
    model: str | None = None
    consent: KeptConsent | None = None
    imported: ImportedVoice | None = None
    status: Literal["saving", "ready", "deleting"]
    changed_at: AwareDatetime
    reference_id: str = Field(description="the session that the reference came from")
    change_id: str | None = Field(None, description="the `VoiceChange` that saved it")
    revocation_id: str | None = Field(None, description="the revocation that deletes it")

    @property
    def is_ready(self) -> bool:
        """Whether the voice can be listed and used: it is neither being saved nor being deleted."""
        return self.status == "ready"


RevocationReason = Literal["deleted", "consent_revoked"]


class VoiceChange(Record):
    """`changes/<id>.json`: a voice that is being saved or deleted, which the sweeper completes after a failure."""

    voice_id: str
    owner: str | None = None
    key_id: str | None = None
    action: Literal["saved", "deleted"] | None = Field(None, description="for the audit log")
    revocation_id: str | None = Field(None, description="the revocation, if the voice is being deleted")
    reference_id: str | None = Field(None, description="reference of the voice that is saved or deleted")
    consent_ids: tuple[str, ...] = Field((), description="recorded consents for this reference")
    reason: RevocationReason = "deleted"


class SigningCertificate(Record):
    """`marking/certificate.json`: the self-signed certificate of manifests, and its private key, both in PEM."""

    certificate: str
    private_key: str = Field(repr=False)


class LastSweep(Record):
    """`sweeps/last.json`: when expired objects were last deleted, and how many."""

    at: AwareDatetime
    swept: dict[str, int]


class QuotaUsage(Record):
    """`shares/<end>/<owner>/<what>.json`: the usage of an owner in a window, over all processes."""

    used: int = Field(ge=0)


class ConnectionState(Record):
    """`connections/<connection_id>.json`: the state of a WebSocket connection."""

    session_id: str | None = None
    owner: str | None = None
    key_id: str | None = None
    scopes: tuple[Scope, ...] = ()
