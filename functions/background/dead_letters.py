"""Handler of dead letters: ends jobs that were delivered too often, so that no client waits indefinitely."""

from functools import partial

import structlog

from functions.background import Event, Record, handle_batch
from pipeline.clients.resources import Resources
from pipeline.contract.messages.queue_messages import parse_queue_message
from pipeline.domain import jobs
from pipeline.errors import SynthesisFailed, Unavailable

log = structlog.get_logger(__name__)


async def handle(resources: Resources, event: Event) -> Event:
    """Handle an SQS batch of dead letters."""
    return await handle_batch(event, partial(_fails, resources))


async def _fails(resources: Resources, record: Record) -> bool:
    message = parse_queue_message(record["body"])
    if message is None:
        log.warning("dead letter is no job", message_id=record["messageId"])
        return False
    try:
        await give_up(resources, message.job_id)
    except Unavailable as error:
        log.warning("could not end job", job_id=message.job_id, reason=error.message)
        return True
    return False


async def give_up(resources: Resources, job_id: str) -> None:
    """Write a failure as the outcome of a job, unless it has an outcome."""
    request = await jobs.read_envelope(resources, job_id)
    if request is None:
        log.warning("dead letter has no request", job_id=job_id)
        return
    error = SynthesisFailed("The speech could not be made after several tries; try again later.")
    written = await jobs.write_outcome(resources, jobs.failure(request, error, resources.clock()))
    log.warning("job given up", job_id=job_id, correlation_id=request.correlation_id, ended_here=written)
