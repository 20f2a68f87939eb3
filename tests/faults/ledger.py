"""What the clients were promised, and what they have observed."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class AcceptedJob:
    """A job that was acknowledged."""

    job_id: str
    session_id: str
    """The upload that its voice was made from."""
    wants_webhook: bool = False
    audio: set[str] = field(default_factory=set)
    """Digests of the audio, of each download."""
    is_notified: bool = False


@dataclass(frozen=True, slots=True)
class SavedVoice:
    """An acknowledged voice: the upload that it was made from, and the digest of its recording."""

    session_id: str
    recording: str


@dataclass(slots=True)
class Ledger:
    """All promises of a run."""

    jobs: dict[str, AcceptedJob] = field(default_factory=dict)
    outcomes: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """All outcomes of a job that were observed, by any interface. They have to be equal."""
    webhooks: set[str] = field(default_factory=set)
    """Ids of jobs whose webhook was received, maybe before the response to their request."""
    saved: dict[str, SavedVoice] = field(default_factory=dict)
    """The acknowledged voices that are not to be deleted, by their ids."""
    deleted: set[str] = field(default_factory=set)
    """Ids of voices whose deletion was acknowledged."""
    deleted_sessions: set[str] = field(default_factory=set)
    """Uploads whose voice is to be deleted. Their jobs are deleted with it."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Responses with errors, by status and code."""
    violations: list[str] = field(default_factory=list)

    def accept(self, job_id: str, session_id: str, *, wants_webhook: bool = False) -> AcceptedJob:
        """Record that a job was acknowledged. A repeated request gets the same job."""
        job = self.jobs.setdefault(job_id, AcceptedJob(job_id, session_id))
        job.wants_webhook |= wants_webhook
        return job

    def begin_deletion(self, voice_id: str) -> None:
        """Record that a voice is to be deleted, with everything made from it."""
        self.deleted_sessions.add(self.saved.pop(voice_id).session_id)

    @property
    def promised(self) -> list[AcceptedJob]:
        """The jobs that have to end, and whose results are not deleted."""
        return [job for job in self.jobs.values() if job.session_id not in self.deleted_sessions]

    def observe_message(self, message: Mapping[str, Any]) -> str | None:
        """Record the outcome in a message of the WebSocket or a webhook. Return its job, if it has one."""
        data = message["data"]
        if message["type"] == "tts_complete":
            self.outcomes[data["job_id"]].add(_outcome(data))
        elif message["type"] == "error" and "job_id" in data:
            self.outcomes[data["job_id"]].add(data["code"])
        else:
            return None
        return str(data["job_id"])

    def observe_view(self, view: Mapping[str, Any]) -> bool:
        """Record the outcome in the response of `GET /jobs/{job_id}`. Return whether there is one."""
        has_ended: bool = view["status"] != "queued"
        if has_ended:
            self.outcomes[view["job_id"]].add(view["code"] if view["status"] == "failed" else _outcome(view))
        return has_ended

    def unfinished(self) -> list[str]:
        """Return what is still open: jobs without an outcome, notification or webhook."""
        found = []
        for job in self.promised:
            missing = [] if self.outcomes[job.job_id] else ["outcome"]
            missing += [] if job.is_notified else ["notification"]
            missing += ["webhook"] if job.wants_webhook and job.job_id not in self.webhooks else []
            if missing:
                found.append(f"{job.job_id}: no {', no '.join(missing)}")
        return found

    def duplicated(self) -> list[str]:
        """Return the jobs with two different outcomes or audio files."""
        return [
            f"{job.job_id}: {sorted(self.outcomes[job.job_id])}, {len(job.audio)} files"
            for job in self.promised
            if len(self.outcomes[job.job_id]) > 1 or len(job.audio) > 1
        ]

    def table(self) -> list[tuple[str, int]]:
        """Return the rows of the report."""
        jobs = self.promised
        outcomes = Counter(
            "succeeded" if job.audio else next(iter(self.outcomes[job.job_id]), "lost") for job in jobs
        )
        webhooks = [job for job in jobs if job.wants_webhook]
        return [
            ("jobs accepted", len(self.jobs)),
            ("jobs deleted with their voice", len(self.jobs) - len(jobs)),
            ("jobs ended", len(jobs) - outcomes["lost"]),
            *((f"– {outcome}", number) for outcome, number in sorted(outcomes.items()) if outcome != "lost"),
            ("clients notified", sum(job.is_notified for job in jobs)),
            ("webhooks requested", len(webhooks)),
            ("webhooks received", sum(job.job_id in self.webhooks for job in webhooks)),
            ("jobs lost", outcomes["lost"]),
            ("jobs duplicated", len(self.duplicated())),
            ("voices saved and not deleted", len(self.saved)),
            ("voices deleted", len(self.deleted)),
            ("requests answered with an error", sum(self.refusals.values())),
        ]


def _outcome(preview: Mapping[str, Any]) -> str:
    return f"audio of {preview['duration_seconds']} s until {preview['expires_at']}"
