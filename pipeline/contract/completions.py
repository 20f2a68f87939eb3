"""What a worker sends straight to a request that waits for its job: how it ended, and the audio if that is small.

It is sent once, after the outcome was written, and saves the request from being notified and from reading; should
it get lost, the notification comes all the same.
"""

from dataclasses import dataclass, field

from pydantic import ValidationError

from pipeline.contract.records import Outcome, parse_outcome

# More audio than this is read from the storage, by whoever wants it.
WAV_MAX_BYTES = 4 * 1024 * 1024
_MAGIC = b"completion\n"


@dataclass(frozen=True, slots=True)
class Completion:
    """A job's outcome, and its WAV as it was stored."""

    outcome: Outcome
    wav: bytes | None = field(default=None, repr=False)

    def to_bytes(self) -> bytes:
        """Write it: a line that says what it is, a line of JSON, the WAV."""
        wav = self.wav if self.wav and len(self.wav) <= WAV_MAX_BYTES else b""
        return _MAGIC + self.outcome.to_json() + b"\n" + wav


def parse_completion(body: bytes) -> Completion | None:
    """Read what `Completion.to_bytes` wrote; None from anything else."""
    if not body.startswith(_MAGIC):
        return None
    document, _, wav = body[len(_MAGIC) :].partition(b"\n")
    try:
        return Completion(parse_outcome(document), wav or None)
    except ValidationError:
        return None
