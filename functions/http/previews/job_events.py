"""The events of a job: each has the message that a WebSocket client receives as its data."""

import json
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from fastapi.sse import format_sse_event

from functions.previews.received_progress import Report
from functions.websocket import server_messages
from pipeline.clients.resources import Resources
from pipeline.contract.messages.stream_messages import StreamStarted, stream_message
from pipeline.contract.records import Failed, Outcome

END_ID = "end"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """An event.

    `id` identifies the job's state, so that a client that reconnects to any process continues after its last event.
    """

    name: Literal["queued", "started", "progress", "completed", "failed"]
    id: str
    data: str

    @property
    def is_end(self) -> bool:
        """Whether it is the last event of the job."""
        return self.id == END_ID

    def follows(self, last_id: str) -> bool:
        """Return whether a client that has received the event `last_id`, or none (""), lacks this one."""
        if self.name == "queued":
            return self.id != last_id and not last_id.startswith(("started ", "restarted ", "progress "))
        is_later = self.id.startswith("started ") and last_id.startswith(f"progress {self.id.split()[1]} ")
        return self.id != last_id and not is_later

    def to_bytes(self) -> bytes:
        """Return the event in the format of `text/event-stream`."""
        return format_sse_event(event=self.name, id=self.id, data_str=self.data)


def queued(job_id: str, ahead: int | None) -> JobEvent:
    """Return the event that a job waits for a worker."""
    return JobEvent("queued", f"queued {ahead}", json.dumps(server_messages.queued(None, job_id, ahead)))


def reported(report: Report) -> JobEvent:
    """Return the event for a worker's report."""
    data, take = stream_message(report).decode(), quote(report.take, safe="")
    if isinstance(report, StreamStarted):
        return JobEvent("started", f"{'restarted' if report.restarted else 'started'} {take}", data)
    return JobEvent("progress", f"progress {take} {report.audio_seconds}", data)


async def ended(resources: Resources, outcome: Outcome, *, root_path: str = "") -> JobEvent:
    """Return the event for a job's outcome."""
    data = json.dumps(await server_messages.completion(resources, outcome, root_path=root_path))
    return JobEvent("failed" if isinstance(outcome, Failed) else "completed", END_ID, data)
