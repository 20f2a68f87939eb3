"""The keys of all stored objects, and the URL path of a preview."""

import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from pipeline.contract.records import ReplyTo, Request, VoiceMetadata
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
CONSENTS = "consents/"
LISTED_CONSENTS = "listed-consents/"
DISCLAIMERS = "disclaimers/"
SIGNING_KEY = CONSENTS + "signing-key"  # in the bucket of the voices, where nothing expires
WEBHOOKS = "webhooks/"
WEBHOOK_ATTEMPTS = "webhook-attempts/"
AUDIT = "audit/"
AUDIT_PENDING = "audit-pending/"
DERIVED = "derived/"
REVOCATIONS = "revocations/"
SWEEPS = "sweeps/"
FINGERPRINTS = "fingerprints/"
LAST_SWEEP = SWEEPS + "last.json"
MARKING = "marking/"
SIGNING_CERTIFICATE = MARKING + "certificate.json"  # in the bucket of the voices, where nothing expires

OUTCOME_FILE = "outcome.json"
METADATA_FILE = "metadata.json"

_AUDIT_KEY = re.compile(r"audit/[^/]+/[0-9]{9}/(?P<sequence>[0-9]{12})\.jsonl")
_ATTEMPT_KEY = re.compile(r"webhook-attempts/(?P<job_id>[0-9a-f]{32})/(?P<number>[0-9]{2})\.json")
_JOB_KEY = re.compile(r"jobs/(?P<job_id>[0-9a-f]{32})/(?P<rest>.+)")
_TIME = re.compile(r"0[0-9a-f]{11}(?=[/-])")


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
    def check(self) -> str:
        """The result of the checks of the recording, JSON, only of a session."""
        return self.folder + "check.json"

    @property
    def recorded_consent(self) -> str:
        """JSON, only of a session with the recording of a consent."""
        return self.folder + "consent.json"

    @property
    def consent_id(self) -> str:
        """The id of the consent for this reference, only of a session."""
        return self.folder + "consent-id.txt"

    def kept_consent_audio(self, consent_id: str) -> str:
        """Mono PCM WAV, only of a saved voice that keeps a recorded consent of its speaker."""
        return f"{self.folder}consent-{consent_id}.wav"

    @property
    def metadata(self) -> str:
        """JSON, only of a saved voice."""
        return self.folder + METADATA_FILE

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
    return len(parts) == 1 or (len(parts) == 2 and is_id(parts[0]) and parts[1] != METADATA_FILE)


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


def analysis(job_id: str) -> str:
    """Return the key of the measures of a preview that were not ready for its outcome."""
    return job(job_id) + "analysis.json"


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


def audit_chain(owner: Owner) -> str:
    """Return the name of an owner's chain of audit entries."""
    return owner or "_"  # no owner's name has an underscore


def audit_entries(chain: str) -> str:
    """Return the folder of a chain, in the bucket of the audit log."""
    return f"{AUDIT}{chain}/"


def audit_object(chain: str, sequence: int) -> str:
    """Return the key of the object that begins with this entry. The keys of a chain sort by the number.

    The folders keep a listing of the latest entries short.
    """
    return f"{audit_entries(chain)}{sequence // 1000:09d}/{sequence:012d}.jsonl"


def audit_sequence_in(key: str) -> int | None:
    """Return the number of the first entry of an object, or None for every other key."""
    match = _AUDIT_KEY.fullmatch(key)
    return int(match["sequence"]) if match else None


def audit_pending(chain: str, entry_id: str = "") -> str:
    """Return the key of an entry that is not yet in its chain, or the folder of these."""
    return f"{AUDIT_PENDING}{chain}/" + (f"{entry_id}.json" if entry_id else "")


def disclaimer_settings(owner: Owner) -> str:
    """Return the key of an owner's audible labels, in the bucket of the voices, where nothing expires."""
    return f"{DISCLAIMERS}{owner or '_'}.json"


def subscribers(job_id: str) -> str:
    """Return the folder of a job's subscribers."""
    return job(job_id) + "subscribers/"


def subscriber(job_id: str, connection_id: str) -> str:
    """Return the key of one subscriber."""
    return f"{subscribers(job_id)}{quote(connection_id, safe='')}.json"


def connection(client: ReplyTo) -> str:
    """Return the key of a connection's state. The keys sort by the time at which the connections were opened."""
    opened = f"{lowest_id(client.connected_at)[:12]}-" if client.connected_at else ""
    return f"{CONNECTIONS}{opened}{quote(client.connection_id, safe='')}.json"


def change(change_id: str) -> str:
    """Return the key of a pending change of a voice."""
    return f"{CHANGES}{change_id}.json"


def key(key_id: str) -> str:
    """Return the key of an API key's record, in the bucket of the voices, where nothing expires."""
    return f"{KEYS}{key_id}/key.json"


def key_use(key_id: str) -> str:
    """Return the key of an API key's last use: a separate object, so that it never races with a revocation."""
    return f"{KEYS}{key_id}/last-use.json"


def voices_of_consent(consent_id: str) -> str:
    """Return the folder of the records that name the voices with this consent, in the bucket of the voices."""
    return f"{CONSENTS}{consent_id}/"


def voice_of_consent(consent_id: str, voice_id: str) -> str:
    """Return the key of the record that names a voice with this consent."""
    return f"{voices_of_consent(consent_id)}{voice_id}.json"


def listed_consents(day: datetime, owner: Owner) -> str:
    """Return the folder that lists the recorded consents of a day: of one owner, or of all."""
    return f"{LISTED_CONSENTS}{day:%Y-%m-%d}/" + (f"{owner}/" if owner else "")


def listed_consent(owner: Owner, consent_id: str) -> str:
    """Return the key that lists a recorded consent. No owner's name has an underscore."""
    return listed_consents(timestamp_of(consent_id), owner or "_") + consent_id


def id_of_listed_consent(key: str) -> str:
    """Return the consent id in such a key."""
    return key.rpartition("/")[2]


def ticket(ticket_id: str) -> str:
    """Return the key of a WebSocket ticket."""
    return f"{TICKETS}{ticket_id}.json"


def quota(owner: str, what: str, end: datetime) -> str:
    """Return the key of an owner's usage record for the window that ends at `end`. The keys sort by this time."""
    return f"{QUOTAS}{lowest_id(end)[:12]}/{owner}/{what}.json"


def time_in(key: str, prefix: str) -> datetime | None:
    """Return the time that follows the prefix in keys that sort by it, or None for every other key."""
    match = _TIME.match(key, len(prefix))
    return timestamp_of(match[0]) if match else None


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


def day_in(key: str, prefix: str) -> str:
    """Return the name of the day's folder that follows the prefix. Days sort by their names."""
    return key.removeprefix(prefix).partition("/")[0]


def derived(day: datetime, reference_id: str) -> str:
    """Return the folder of the markers of a reference's jobs that were created on a day."""
    return f"{DERIVED}{day:%Y-%m-%d}/{reference_id}/"


def derived_job(reference_id: str, job_id: str) -> str:
    """Return the key of the marker of a job that was made from a reference."""
    return f"{derived(timestamp_of(job_id), reference_id)}{job_id}.json"


def job_id_of_derived(key: str) -> str:
    """Return the job id in a marker's key."""
    return key.rpartition("/")[2].removesuffix(".json")


def revocation(revocation_id: str) -> str:
    """Return the key of a certificate, in the bucket of the voices, where nothing expires."""
    return f"{REVOCATIONS}{revocation_id}.json"


def fingerprints_of(owner: Owner, day: datetime) -> str:
    """Return the folder of the fingerprints of an owner's previews of a day."""
    return f"{FINGERPRINTS}{day:%Y-%m-%d}/{owner or '_'}/"  # no owner's name has an underscore


def fingerprint(owner: Owner, job_id: str) -> str:
    """Return the folder of the fingerprint of a preview. The names of the files in it are the fingerprint."""
    return f"{fingerprints_of(owner, timestamp_of(job_id))}{job_id}/"


def id_in(key: str, prefix: str) -> str:
    """Return the id that follows the prefix, up to the next `/` or `.`."""
    return unquote(re.split(r"[/.]", key.removeprefix(prefix), maxsplit=1)[0])


def job_id_of_outcome(key: str) -> str | None:
    """Return the job id in an outcome's key, or None for every other key."""
    match = _JOB_KEY.fullmatch(key)
    return match["job_id"] if match and match["rest"] == OUTCOME_FILE else None
