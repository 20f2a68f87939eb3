"""The settings, which are environment variables of the same names."""

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from pipeline.addresses import HttpUrl, Networks, Origins, is_loopback, is_loopback_url, separated
from pipeline.environment import EnvironmentSettings, load

MAX_HOURS = 24 * 366 * 10
# Reserved from the time to wait for a job: for reading its audio and sending the response.
ANSWER_SECONDS = 2.5
# The size of a multipart form without its recording.
FORM_BYTES = 1024 * 1024


# The alias for every name that is neither that of a saved voice nor an alias.
FALLBACK_ALIAS = "*"
ROOT_PATH = r"(?:/[A-Za-z0-9._~-]+)+"


def parse_aliases(value: str) -> dict[str, str]:
    """Return the names of voices by alias.

    Raises
    ------
    ValueError
        An item is not of the form `alias=voice`.
    """
    aliases: dict[str, str] = {}
    for item in separated(value):
        alias, _, voice = (part.strip() for part in item.partition("="))
        if not alias or not voice:
            raise ValueError(f"should be names such as alloy=nova,ash=my-voice, not {item!r}")
        aliases[alias.casefold()] = voice
    return aliases


def _check_aliases(value: str) -> str:
    parse_aliases(value)
    return value


def _check_seed(value: SecretStr) -> SecretStr:
    try:
        is_valid = len(base64.b64decode(value.get_secret_value(), validate=True)) == 32
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError("should be 32 bytes in base64")
    return value


def _check_public_keys(value: str) -> str:
    public_keys(value)
    return value


def public_keys(value: str) -> frozenset[bytes]:
    """Return the Ed25519 keys in a setting. Raises `ValueError` if one is not 32 bytes in base64."""
    keys = frozenset(base64.b64decode(key.strip(), validate=True) for key in value.split(",") if key.strip())
    if any(len(key) != 32 for key in keys):
        raise ValueError("should be public keys of 32 bytes in base64, separated by commas")
    return keys


Backend = Literal["qwen", "hibari", "mock"]
Mark = Literal["watermark", "c2pa"]
Marking = Literal["auto", "watermark", "c2pa", "both", "off"]
VoiceAliases = Annotated[str, AfterValidator(_check_aliases)]


class Settings(EnvironmentSettings):
    """The settings of one process.  The description of each field is its row in docs/settings.md."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, extra="ignore", case_sensitive=False, allow_inf_nan=False
    )

    tts_backend: Backend = Field(
        "qwen",
        description="Engine of the worker: `qwen`, `hibari` or `mock`. `make run` uses `hibari` by default",
    )

    mark: Marking = Field(
        "auto",
        description="Marks of generated audio: `watermark`, `c2pa` (a signed manifest in the file), `both` or "
        "`off`. `auto`: all marks with installed packages",
    )
    consent: Literal["off", "record", "require"] = Field(
        "record",
        description="Consents of speakers: `off` (not stored), `record`, or `require`: voices can't be saved or "
        "used without a valid consent",
    )
    signing_key: Annotated[SecretStr, AfterValidator(_check_seed)] | None = Field(
        None,
        description="Private Ed25519 key of receipts: 32 bytes in base64, such as from `openssl rand -base64 32`. "
        "Default: a key that is created once and stored with the voices",
    )
    bundle_trusted_keys: Annotated[str, AfterValidator(_check_public_keys)] = Field(
        "",
        description="Public Ed25519 keys (base64, separated by commas) of installations whose voice bundles can be "
        "imported with prompt and checked consent. If set, bundles of other installations are refused",
    )
    operator: str = Field(
        "the operator of this service",
        min_length=1,
        max_length=80,
        description="Name of the operator in consent statements and receipts",
    )
    mark_required: bool = Field(
        False, description="Refuse to start if a mark is unavailable that `MARK` chooses. `auto` then means `both`"
    )

    mark_certificate: str | None = Field(
        None,
        description="Certificate chain that signs C2PA manifests: PEM, or a file. Default: a self-signed "
        "certificate. Viewers show it as untrusted",
    )
    mark_private_key: SecretStr | None = Field(
        None, description="Private key of `MARK_CERTIFICATE`: PEM (PKCS #8, not encrypted), or a file"
    )
    mark_timestamp_url: HttpUrl | None = Field(
        None, description="RFC 3161 time-stamp service for manifests. Each signature calls it. Default: none"
    )
    mark_trust_anchors: str | None = Field(
        None,
        description="Certificates that `/verify` trusts as issuers of manifests: PEM, or a file. Default: none",
    )

    quality: Literal["off", "warn", "require"] = Field(
        "warn",
        description="Checks of reference recordings. `warn`: previews report warnings. `require`: a voice can "
        "only be saved without warnings. `off`: only `POST /references/check` checks recordings",
    )

    host: str = Field("127.0.0.1", description="Address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on")
    auth: Literal["keys", "none"] | None = Field(
        None,
        description="`keys`: every caller needs a key. `none`: all callers have all permissions. Default: "
        "`none` on a loopback `HOST`, else `keys`",
    )
    aws_lambda_function_name: str | None = Field(
        None, description="Set by AWS Lambda. The default of `AUTH` is then `keys`"
    )
    cors_origins: Origins | None = Field(
        None,
        description="Origins of other sites that may use the API, separated by commas, such as "
        "`https://studio.example,http://localhost:3000,app://notes.example`",
    )
    body_timeout_seconds: float = Field(
        30, gt=0, le=600, description="How long a client may pause within a request"
    )
    websocket_frames_per_minute: int = Field(
        600,
        ge=0,
        le=1_000_000,
        description="Frames that a WebSocket connection may send in a minute. Further frames wait, then the "
        "connection is closed. 0: no limit",
    )
    connections_per_key: int = Field(
        32,
        ge=0,
        le=100_000,
        description="Open WebSockets and event streams per key in an API process. 0: no limit",
    )
    connections_per_address: int = Field(
        256,
        ge=0,
        le=100_000,
        description="Open WebSockets and event streams per address in an API process. 0: no limit",
    )
    trusted_proxies: Networks | None = Field(
        None,
        description="Addresses or networks of proxies whose `X-Forwarded-*` headers are used, separated by "
        "commas, such as `127.0.0.1,10.0.0.0/8`. Default: none",
    )
    root_path: str = Field(
        "",
        description="Path prefix under which a proxy publishes the API, such as `/tts`. `X-Forwarded-Prefix` of a "
        "trusted proxy replaces it",
    )
    origin_secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Secret that CloudFront sends to the functions. They reject requests without it, and use the "
        "client address that CloudFront reports. The template creates it if there is a domain",
    )
    websocket_url: str | None = Field(
        None,
        description="URL of the WebSocket API for the studio, such as `wss://sockets.example`. Default: "
        "`/ws` of the page's origin",
    )
    uvicorn_workers: int = Field(1, ge=1, le=64, description="Number of API processes")
    worker_health_port: int = Field(0, ge=0, le=65535, description="Port of the worker's `/health`. 0: none")
    worker_health_url: HttpUrl | None = Field(
        None, description="URL of the worker's `/health`. The API's `/health` then includes its state"
    )
    ecs_agent_uri: HttpUrl | None = Field(
        None, description="URL of the ECS agent, which protects a busy worker from being stopped. Set by ECS"
    )
    preview_wait_seconds: float = Field(
        25, ge=0, le=600, description="How long `/preview` waits for the result before it returns 202"
    )

    aws_endpoint_url: HttpUrl | None = Field(
        None, description="Endpoint of S3 and SQS instead of AWS. If it is not set, `make run` starts its own"
    )
    aws_endpoint_url_s3: HttpUrl | None = Field(None, description="Endpoint of S3 only, such as MinIO")
    aws_endpoint_url_sqs: HttpUrl | None = Field(None, description="Endpoint of SQS only")
    aws_region: str = Field(
        "us-east-1",
        min_length=1,
        validation_alias=AliasChoices("aws_region", "aws_default_region"),
        description="AWS region",
    )
    bucket: str = Field(
        "voice-cloning", min_length=3, max_length=63, description="Bucket for everything that expires"
    )
    voices_bucket: str | None = Field(
        None, min_length=3, max_length=63, description="Bucket for saved voices. Default: `BUCKET`"
    )
    synthesis_queue: str = Field(
        "voice-cloning-synthesis", min_length=1, description="Queue of jobs, by name or URL"
    )
    synthesis_dead_letter_queue: str = Field(
        "voice-cloning-synthesis-dead", min_length=1, description="Queue of jobs that failed too often"
    )
    events_queue: str = Field(
        "voice-cloning-events", min_length=1, description="Queue of object-created events, by name or URL"
    )
    events_dead_letter_queue: str = Field(
        "voice-cloning-events-dead", min_length=1, description="Queue of events that failed too often"
    )

    webhooks_queue: str = Field(
        "voice-cloning-webhooks", min_length=1, description="Queue of webhooks to send, by name or URL"
    )
    webhooks_dead_letter_queue: str = Field(
        "voice-cloning-webhooks-dead", min_length=1, description="Queue of webhooks that failed for a day"
    )

    upload_retention_hours: float = Field(12, gt=0, le=MAX_HOURS, description="How long an upload is kept")
    upload_form_minutes: float = Field(60, gt=0, le=10080, description="How long a presigned upload form is valid")
    preview_retention_minutes: float = Field(20, gt=0, le=60 * MAX_HOURS, description="How long a preview is kept")
    job_retention_hours: float = Field(24, gt=0, le=MAX_HOURS, description="How long a job's record is kept")
    connection_retention_hours: float = Field(
        2, gt=0, le=MAX_HOURS, description="How long the record of a WebSocket connection is kept"
    )
    audit_bucket: str | None = Field(
        None, min_length=3, max_length=63, description="Bucket for the audit log. Default: `VOICES_BUCKET`"
    )
    audit_retention_days: int = Field(
        1095, ge=0, le=36500, description="How long audit entries are kept. 0: no audit log"
    )
    job_deadline_minutes: float = Field(
        60, gt=0, le=60 * MAX_HOURS, description="A job that has not ended after this time fails"
    )

    request_max_megabytes: float = Field(
        0,
        ge=0,
        le=1024,
        description="Largest request that reaches the API, in MiB. 0: as large as a reference recording",
    )
    answer_max_megabytes: float = Field(
        0,
        ge=0,
        le=1024,
        description="Largest audio in a response, in MiB. Clients are redirected to larger audio. 0: no limit",
    )
    reference_max_megabytes: float = Field(25, gt=0, le=1024, description="Largest reference recording, in MiB")
    reference_min_seconds: float = Field(1, gt=0, le=3600, description="Shortest reference recording")
    reference_max_seconds: float = Field(60, gt=0, le=3600, description="Longest reference recording")
    decodes_at_once: int = Field(
        2, ge=1, le=64, description="Recordings that an API process decodes at the same time. Others wait"
    )
    transcription_max_chars: int = Field(4096, ge=1, description="Longest transcription of a reference")
    text_max_chars: int = Field(4096, ge=1, description="Longest text to synthesize")

    verifications_per_minute: int = Field(
        30,
        ge=0,
        le=100_000,
        description="Requests to `/verify` without a key, per address and minute in an API process. 0: a key is "
        "needed",
    )

    voice_aliases: VoiceAliases | None = Field(
        None,
        description="Other names of saved voices in `/v1`, such as `alloy=nova,ash=my-voice,*=nova`. `*` is "
        "the voice for all other names",
    )
    lists_without_key: bool = Field(
        False,
        description="Serve `/v1/audio/models`, and `/v1/audio/voices` with the names in `VOICE_ALIASES` only, "
        "without a key",
    )

    requests_per_minute: int = Field(
        600, ge=0, le=1_000_000, description="Requests per owner and minute. 0: no limit"
    )
    jobs_waiting: int = Field(
        10_000,
        ge=0,
        le=1_000_000,
        description="Jobs of all owners that wait for a worker. Further previews return 503. 0: no limit",
    )
    previews_in_flight: int = Field(16, ge=0, le=10_000, description="Concurrent previews per owner. 0: no limit")
    voices_per_owner: int = Field(100, ge=0, le=1_000_000, description="Saved voices per owner. 0: no limit")
    reference_seconds_per_hour: int = Field(
        3600, ge=0, le=1_000_000, description="Seconds of uploaded recordings per owner and hour. 0: no limit"
    )

    worker_batch_size: int = Field(8, ge=1, le=256, description="Jobs that the worker processes at the same time")
    visibility_timeout_seconds: int = Field(
        60,
        ge=2,
        le=43200,
        description="How long a job stays hidden from other workers after the last heartbeat",
    )
    worker_drain_seconds: float = Field(
        100, ge=0, le=3600, description="How long a stopping worker may take to finish its jobs"
    )
    receive_wait_seconds: int = Field(20, ge=0, le=20, description="How long one poll of a queue waits")
    max_receives: int = Field(5, ge=1, le=1000, description="Deliveries of a message before it is a dead letter")
    prompt_cache_size: int = Field(64, ge=0, description="Voice prompts that the worker keeps in memory")
    qwen_tts_model_id: str = Field(
        "Qwen/Qwen3-TTS-12Hz-0.6B-Base",
        min_length=1,
        description="Model of the `qwen` engine: an id on the Hugging Face hub, or a local directory",
    )
    qwen_tts_revision: str | None = Field(
        None,
        description="Revision of the model on the hub. Default: the pinned revision of the published models",
    )
    preload_model_on_startup: bool = Field(
        True, description="Load the model at startup instead of with the first job"
    )
    device: str = Field(
        "auto",
        description="Device of the model: `auto`, `cpu`, `cuda` or `cuda:N`",
    )
    torch_dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = Field(
        "auto",
        description="Precision of the model. `auto`: bfloat16 on GPUs that support it, else float32. `int8`: "
        "for CPUs",
    )
    attention_backend: Literal["efficient", "cudnn", "math"] = Field(
        "efficient", description="Attention of torch on GPUs with masks. `math` is slow and always works"
    )
    torch_threads: int = Field(0, ge=0, le=1024, description="CPU threads of the model. 0: the default of torch")
    mock_delay_seconds: float = Field(
        0, ge=0, le=3600, description="Delay of the mock engine before its first audio"
    )
    mock_speed: float = Field(
        0, ge=0, le=1000, description="Speed of the mock engine, in multiples of real time. 0: unlimited"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level that is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Literal["text", "json"] = Field("text", description="Format of the log lines: `text` or `json`")
    traces_url: HttpUrl | None = Field(
        None,
        description="OTLP collector for traces, such as `http://127.0.0.1:4318/v1/traces`. Default: none. "
        "`OTEL_EXPORTER_OTLP_HEADERS` can contain its key",
    )
    log_payload_chars: int = Field(500, ge=0, description="Longest value in a log line")

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator(
        "auth",
        "tts_backend",
        "mark",
        "consent",
        "log_format",
        "device",
        "torch_dtype",
        "attention_backend",
        mode="before",
    )
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("root_path")
    @classmethod
    def _is_path(cls, value: str) -> str:
        if value and not re.fullmatch(ROOT_PATH, value):
            raise ValueError("should be a path without a slash at its end, such as /tts")
        return value

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d{1,2})?", value):
            raise ValueError("should be 'auto', 'cpu', 'cuda' or 'cuda:N'")
        return value

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.reference_min_seconds >= self.reference_max_seconds:
            raise ValueError("REFERENCE_MIN_SECONDS should be less than REFERENCE_MAX_SECONDS")
        if self.job_deadline + self.preview_retention > self.job_retention:
            raise ValueError(
                "JOB_RETENTION_HOURS should be at least JOB_DEADLINE_MINUTES and PREVIEW_RETENTION_MINUTES "
                "together: a job's record must outlive its preview"
            )
        return self

    @cached_property
    def wants_keys(self) -> bool:
        """Whether every caller needs an API key."""
        if self.auth is None:
            return self.aws_lambda_function_name is not None or not is_loopback(self.host)
        return self.auth == "keys"

    @cached_property
    def allows_loopback_webhooks(self) -> bool:
        """Whether webhooks may be sent to this machine: only if all callers are on it."""
        return is_loopback(self.host) and not self.wants_keys

    @cached_property
    def serves_links(self) -> bool:
        """Whether the API itself serves signed links, since callers on other machines can't reach the storage."""
        storage = self.endpoint_for("s3")
        return storage is not None and is_loopback_url(storage) and not is_loopback(self.host)

    @cached_property
    def allowed_origins(self) -> tuple[str, ...]:
        """The other origins whose pages may use the API."""
        return separated(self.cors_origins)

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """The addresses and networks of trusted proxies."""
        return separated(self.trusted_proxies)

    @property
    def trusted_bundle_keys(self) -> frozenset[bytes]:
        """The public keys in `BUNDLE_TRUSTED_KEYS`."""
        return public_keys(self.bundle_trusted_keys)

    @cached_property
    def aliases_of_voices(self) -> Mapping[str, str]:
        """The ids or names of voices by their aliases, which are in lower case."""
        return parse_aliases(self.voice_aliases or "")

    def endpoint_for(self, service: Literal["s3", "sqs"]) -> str | None:
        """Return the endpoint of a service, or None for AWS."""
        own = {"s3": self.aws_endpoint_url_s3, "sqs": self.aws_endpoint_url_sqs}
        return own[service] or self.aws_endpoint_url

    @cached_property
    def bucket_for_voices(self) -> str:
        """The bucket that holds saved voices."""
        return self.voices_bucket or self.bucket

    @cached_property
    def bucket_for_audit(self) -> str:
        """The bucket that holds the audit log."""
        return self.audit_bucket or self.bucket_for_voices

    @cached_property
    def buckets(self) -> tuple[str, ...]:
        """All buckets, each once."""
        return tuple(dict.fromkeys((self.bucket, self.bucket_for_voices, self.bucket_for_audit)))

    @cached_property
    def audit_retention(self) -> timedelta:
        """How long an audit entry is kept from its recording."""
        return timedelta(days=self.audit_retention_days)

    @cached_property
    def upload_retention(self) -> timedelta:
        """How long an upload is kept from its session's creation."""
        return timedelta(hours=self.upload_retention_hours)

    @cached_property
    def upload_form_lifetime(self) -> timedelta:
        """How long a presigned upload is valid: never longer than the retention of the upload."""
        return min(timedelta(minutes=self.upload_form_minutes), self.upload_retention)

    @cached_property
    def preview_retention(self) -> timedelta:
        """How long a preview is kept from its completion."""
        return timedelta(minutes=self.preview_retention_minutes)

    @cached_property
    def job_retention(self) -> timedelta:
        """How long a job's request and outcome are kept from its creation."""
        return timedelta(hours=self.job_retention_hours)

    @cached_property
    def job_deadline(self) -> timedelta:
        """How long a job may take from its creation."""
        return timedelta(minutes=self.job_deadline_minutes)

    @cached_property
    def connection_retention(self) -> timedelta:
        """How long a connection's record is kept from its last use."""
        return timedelta(hours=self.connection_retention_hours)

    @cached_property
    def reference_max_bytes(self) -> int:
        """The maximum size of a reference recording, in bytes."""
        return _bytes(self.reference_max_megabytes)

    @cached_property
    def answer_seconds(self) -> float:
        """The time limit for a response, from the request's first byte: API Gateway waits for 30 seconds."""
        return self.preview_wait_seconds + ANSWER_SECONDS

    @cached_property
    def request_max_bytes(self) -> int:
        """The maximum size of a request, in bytes."""
        largest = self.reference_max_bytes + FORM_BYTES
        return min(_bytes(self.request_max_megabytes) or largest, largest)

    @cached_property
    def answer_max_bytes(self) -> int:
        """The maximum size of the audio in a response, in bytes, or 0 for no limit."""
        return _bytes(self.answer_max_megabytes)


def _bytes(megabytes: float) -> int:
    return int(megabytes * 1024 * 1024)


def load_settings() -> Settings:
    """Read the settings from the environment (see `load`)."""
    return load(Settings)
