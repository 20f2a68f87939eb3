"""The message that a worker sends directly to a request that waits for its job: the outcome, and short audio.

It is sent once, after the outcome was written, so that the request needs neither the notification nor a read. If it
is lost, the request still receives the notification.
"""

from dataclasses import dataclass, field

from pydantic import ValidationError

from pipeline.contract.records import Outcome, parse_outcome

# Larger audio is read from the storage by the receiver.
WAV_MAX_BYTES = 4 * 1024 * 1024
_MAGIC = b"completion\n"


@dataclass(frozen=True, slots=True)
class Completion:
    """A job's outcome, and its stored WAV."""

    outcome: Outcome
    wav: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """Serialize it: a line that identifies the format, a line of JSON, the WAV."""
        wav = self.wav if self.wav and len(self.wav) <= WAV_MAX_BYTES else b""
        return _MAGIC + self.outcome.to_json() + b"\n" + wav


def parse_completion(body: bytes) -> Completion | None:
    """Parse the output of `Completion.to_bytes`. Return None for anything else."""
    if not body.startswith(_MAGIC):
        return None
    document, _, wav = body[len(_MAGIC) :].partition(b"\n")
    try:
        return Completion(parse_outcome(document), wav or None)
    except ValidationError:
        return None
