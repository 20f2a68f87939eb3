"""The keys of all stored objects, and the URL path of a preview."""

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from pipeline.contract.records import Request, VoiceMetadata
from pipeline.ids import Owner, is_id, lowest_id, timestamp_of

UPLOADS = "audio/uploads/"
PREVIEWS = "audio/previews/"
VOICES = "audio/voices/"
JOBS = "jobs/"
CONNECTIONS = "connections/"
CHANGES = "changes/"
KEYS = "keys/"
TICKETS = "tickets/"
QUOTAS = "shares/"
IN_FLIGHT = "in-flight/"
IDEMPOTENCY = "idempotency/"
WEBHOOKS = "webhooks/"
WEBHOOK_ATTEMPTS = "webhook-attempts/"
SWEEPS = "sweeps/"
LAST_SWEEP = SWEEPS + "last.json"

OUTCOME_FILE = "outcome.json"
_REFERENCE_FILES = {"source.wav", "transcription.txt", "embedding.json", "consent.wav"}

_ATTEMPT_KEY = re.compile(r"webhook-attempts/(?P<job_id>[0-9a-f]{32})/(?P<number>[0-9]{2})\.json")
_JOB_KEY = re.compile(r"jobs/(?P<job_id>[0-9a-f]{32})/(?P<rest>.+)")
_USAGE_KEY = re.compile(r"shares/[^/]+/(?P<what>[a-z-]+)-(?P<start>0[0-9a-f]{11})\.json")


@dataclass(frozen=True, slots=True)
class ReferenceKeys:
    """The keys of a reference's files, of a session or a saved voice."""

    folder: str

    @property
    def audio(self) -> str:
        """Mono PCM WAV."""
        return self.folder + "source.wav"

    @property
    def transcription(self) -> str:
        """UTF-8 text, if there is a transcription."""
        return self.folder + "transcription.txt"

    @property
    def embedding(self) -> str:
        """The voice-clone prompt, JSON."""
        return self.folder + "embedding.json"

    @property
    def recorded_consent(self) -> str:
        """JSON, only of a session with the recording of a consent."""
        return self.folder + "consent.json"

    @property
    def kept_consent_audio(self) -> str:
        """Mono PCM WAV, only of a saved voice that keeps a recorded consent of its speaker."""
        return self.folder + "consent.wav"

    @property
    def metadata(self) -> str:
        """JSON, only of a saved voice."""
        return self.folder + "metadata.json"

    @property
    def unchecked_audio(self) -> str:
        """Only of a session: a file that was uploaded by presigned POST and is not validated yet."""
        return self.folder + "upload"


def session(session_id: str) -> ReferenceKeys:
    """Return the keys of an upload."""
    return ReferenceKeys(f"{UPLOADS}{session_id}/")


def voices(owner: Owner) -> str:
    """Return the folder of an owner's voices."""
    return VOICES if owner is None else f"{VOICES}{owner}/"


def voice(owner: Owner, voice_id: str) -> ReferenceKeys:
    """Return the keys of a saved voice. Its metadata contains the location of its reference files."""
    return ReferenceKeys(f"{voices(owner)}{voice_id}/")


def voice_reference(owner: Owner, voice_id: str, reference_id: str) -> ReferenceKeys:
    """Return the keys of one reference of a saved voice: unique, even if its id is used again."""
    return ReferenceKeys(f"{voice(owner, voice_id).folder}{reference_id}/")


def voice_files(voice: VoiceMetadata) -> ReferenceKeys:
    """Return the keys of a saved voice's reference. Those of older voices are in the folder of the metadata."""
    return ReferenceKeys(voice.source_file.rpartition("/")[0] + "/")


def is_voice_file(key: str, owner: Owner, voice_id: str) -> bool:
    """Return whether a key in a voice's folder belongs to the voice: a folder in it may be that of an owner."""
    parts = key.removeprefix(voice(owner, voice_id).folder).split("/")
    return len(parts) == 1 or (len(parts) == 2 and is_id(parts[0]) and parts[1] in _REFERENCE_FILES)


def reference(request: Request) -> ReferenceKeys:
    """Return the keys of the reference that a request names."""
    if request.reference_folder is not None:
        return ReferenceKeys(request.reference_folder)
    source = request.source
    if source.session_id is not None:
        return session(source.session_id)
    return voice(source.owner, source.voice_id or "")


def preview(job_id: str) -> str:
    """Return the key of a job's audio."""
    return f"{PREVIEWS}{job_id}.wav"


def audio_url(job_id: str, extension: str = "wav", root_path: str = "", speed: float = 1) -> str:
    """Return the URL path of a preview on the API. `root_path` is the prefix of the API's paths."""
    return f"{root_path}/previews/{job_id}.{extension}" + (f"?speed={speed:g}" if speed != 1 else "")


def job(job_id: str) -> str:
    """Return the folder of a job."""
    return f"{JOBS}{job_id}/"


def request(job_id: str) -> str:
    """Return the key of a job's request."""
    return job(job_id) + "request.json"


def outcome(job_id: str) -> str:
    """Return the key of a job's outcome."""
    return job(job_id) + OUTCOME_FILE


def cancellation(job_id: str) -> str:
    """Return the key of a job's cancellation."""
    return job(job_id) + "cancel"


def webhook_failure(job_id: str) -> str:
    """Return the key of the record that a job's webhook was given up."""
    return job(job_id) + "webhook-failure.json"


def webhook_attempts(job_id: str) -> str:
    """Return the folder of the attempts to deliver the webhook of a job."""
    return f"{WEBHOOK_ATTEMPTS}{job_id}/"


def webhook_attempt(job_id: str, number: int) -> str:
    """Return the key of one attempt. The keys of a job sort by the number."""
    return f"{webhook_attempts(job_id)}{number:02d}.json"


def webhook_attempt_in(key: str) -> tuple[str, int] | None:
    """Return the job id and the number in the key of an attempt, or None for every other key."""
    match = _ATTEMPT_KEY.fullmatch(key)
    return (match["job_id"], int(match["number"])) if match else None


def webhook_receiver(owner: Owner) -> str:
    """Return the key of an owner's webhook receiver, in the bucket of the voices, where nothing expires."""
    return f"{WEBHOOKS}{owner or '_'}.json"  # no owner's name has an underscore


def subscribers(job_id: str) -> str:
    """Return the folder of a job's subscribers."""
    return job(job_id) + "subscribers/"


def subscriber(job_id: str, connection_id: str) -> str:
    """Return the key of one subscriber."""
    return f"{subscribers(job_id)}{quote(connection_id, safe='')}.json"


def connection(connection_id: str) -> str:
    """Return the key of a connection's state."""
    return f"{CONNECTIONS}{quote(connection_id, safe='')}.json"


def change(change_id: str) -> str:
    """Return the key of a pending change of a voice."""
    return f"{CHANGES}{change_id}.json"


def key(key_id: str) -> str:
    """Return the key of an API key's record, in the bucket of the voices, where nothing expires."""
    return f"{KEYS}{key_id}/key.json"


def key_use(key_id: str) -> str:
    """Return the key of an API key's last use: a separate object, so that it never races with a revocation."""
    return f"{KEYS}{key_id}/last-use.json"


def ticket(ticket_id: str) -> str:
    """Return the key of a WebSocket ticket."""
    return f"{TICKETS}{ticket_id}.json"


def quota(owner: str, what: str, start: datetime) -> str:
    """Return the key of an owner's usage record for the window that starts at `start`."""
    return f"{QUOTAS}{owner}/{what}-{lowest_id(start)[:12]}.json"


def window_of_quota(key: str) -> tuple[str, datetime] | None:
    """Return which quota a usage record's key is for, and the window's start, or None for every other key."""
    match = _USAGE_KEY.fullmatch(key)
    return (match["what"], timestamp_of(match["start"])) if match else None


def in_flight_of(owner: str) -> str:
    """Return the folder of the markers of an owner's previews that have not ended."""
    return f"{IN_FLIGHT}{owner}/"


def in_flight(owner: str, job_id: str) -> str:
    """Return the key of the marker of a preview that has not ended."""
    return in_flight_of(owner) + job_id


def job_id_in_flight(key: str) -> str:
    """Return the job id in a marker's key."""
    return key.rpartition("/")[2]


def idempotency(day: datetime, digest: str) -> str:
    """Return the key of an idempotency key's record, in the folder of a day."""
    return f"{IDEMPOTENCY}{day:%Y-%m-%d}/{digest}.json"


def day_of_idempotency(key: str) -> str:
    """Return the name of the day's folder in the key of an idempotency key's record. Days sort by their names."""
    return key.removeprefix(IDEMPOTENCY).partition("/")[0]


def id_in(key: str, prefix: str) -> str:
    """Return the id that follows the prefix, up to the next `/` or `.`."""
    return unquote(re.split(r"[/.]", key.removeprefix(prefix), maxsplit=1)[0])


def job_id_of_outcome(key: str) -> str | None:
    """Return the job id in an outcome's key, or None for every other key."""
    match = _JOB_KEY.fullmatch(key)
    return match["job_id"] if match and match["rest"] == OUTCOME_FILE else None
