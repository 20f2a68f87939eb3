"""The guarantees about jobs, checked on the history of the storage and on what clients have received."""

from collections import Counter
from datetime import timedelta
from functools import lru_cache

from pipeline.audio.wav import length_of_wav
from pipeline.contract import layout
from pipeline.contract.messages.events import parse_notification
from pipeline.contract.records import Failed, Outcome, Request, parse_outcome
from tests.simulation.clients import OWNER, Promises
from tests.simulation.voice_checks import Violation, check_removed, open_voices
from tests.simulation.world import SETTINGS, World

CLOCKS_DIFFER = timedelta(seconds=4)
COMPLETIONS = {"tts_complete", "error"}

parsed_outcome = lru_cache(1000)(parse_outcome)


def check(world: World, promises: Promises) -> list[str]:
    """Return what is still open, such as jobs that have not ended.

    Raises
    ------
    Violation
        A guarantee is broken, whatever happens later.
    """
    open_ = [message for job_id in promises.jobs if (message := _check_job(world, promises, job_id))]
    open_ += [f"webhook of {job_id} not sent" for job_id in promises.webhooks if not _webhook_ended(world, job_id)]
    pending = (layout.CHANGES, layout.WEBHOOK_ATTEMPTS)
    open_ += [f"{key} is pending" for key in world.objects["bucket"] if key.startswith(pending)]
    open_ += [f"{queue.name} has messages" for queue in world.queues if queue.bodies]
    open_ += _markers(world)
    return open_ + open_voices(world, promises)


def check_at_end(world: World, promises: Promises) -> None:
    """Check the whole history.

    Raises
    ------
    Violation
        A guarantee was broken.
    """
    _check_written_once(world)
    _check_not_early(world, promises)
    _check_keys(world, promises)
    _check_failed_events(world)
    check_removed(world)
    repeated = [job_id for job_id, times in Counter(world.webhooks).items() if times > 1]
    if promises.is_calm and repeated:
        raise Violation(f"the webhooks of {repeated} were sent again without a fault")


def _check_job(world: World, promises: Promises, job_id: str) -> str | None:
    if not _is_before(world, layout.in_flight(OWNER, job_id), layout.request(job_id)):
        raise Violation(f"job {job_id} was stored before it was counted")
    body = world.first.get(layout.outcome(job_id))
    if body is None:
        return f"job {job_id} has not ended"
    is_deleted = layout.outcome(job_id) not in world.objects["bucket"]  # with its voice
    _check_outcome(world, parsed_outcome(body), is_cancelled=job_id in promises.cancelled and not is_deleted)
    if is_deleted:
        return None
    names = {promises.jobs[job_id], *(name for id_, name in promises.subscribed if id_ == job_id)}
    waiting = [name for name in sorted(names) if name in world.inboxes and not _heard(world, name, job_id)]
    return f"{waiting} not notified of {job_id}" if waiting else None


def _check_outcome(world: World, outcome: Outcome, *, is_cancelled: bool) -> None:
    audio, job_id = layout.preview(outcome.job_id), outcome.job_id
    if isinstance(outcome, Failed):
        if outcome.code == "deadline_exceeded":
            raise Violation(f"job {job_id} exceeded its deadline although workers ran")
    elif not _is_before(world, audio, layout.outcome(job_id)) or not length_of_wav(world.first[audio])[1]:
        raise Violation(f"job {job_id} succeeded without its audio")
    if is_cancelled and not (isinstance(outcome, Failed) and outcome.code == "cancelled"):
        raise Violation(f"job {job_id} was cancelled, and its outcome is {outcome.status}")


def _heard(world: World, name: str, job_id: str) -> bool:
    completions = {
        message["type"]
        for message in world.inboxes[name]
        if message["type"] in COMPLETIONS and message["data"].get("job_id") == job_id
    }
    if len(completions) > 1:
        raise Violation(f"{name} was notified of {job_id} as {sorted(completions)}")
    return bool(completions)


def _webhook_ended(world: World, job_id: str) -> bool:
    keys = world.objects["bucket"]
    is_deleted = layout.outcome(job_id) in world.first and layout.request(job_id) not in keys  # with its voice
    return job_id in world.webhooks or layout.webhook_failure(job_id) in keys or is_deleted


def _check_written_once(world: World) -> None:
    seen = set[str]()
    for event in world.history:
        once = (
            event.bucket == "audit" or event.key.startswith(layout.PREVIEWS) or layout.job_id_of_outcome(event.key)
        )
        if event.body is None:
            seen.discard(event.key)
        elif once and event.key in seen:
            raise Violation(f"{event.key} was written twice")
        else:
            seen.add(event.key)


def _check_keys(world: World, promises: Promises) -> None:
    """Check that no key has two jobs that have ended, even if one of them was never answered."""
    bodies = [body for key, body in world.first.items() if key.startswith(layout.JOBS) and "request.json" in key]
    made = [Request.model_validate_json(body) for body in bodies] if promises.keyed else []
    for key, job_id in promises.keyed.items():
        of_key = [request for request in made if request.text == f"Hello {key}."]
        others = [
            one.job_id for one in of_key if one.job_id != job_id and layout.outcome(one.job_id) in world.first
        ]
        if others:
            raise Violation(f"key {key} has the jobs {job_id} and {others}")
    for job_id in promises.wanted:
        outcome = parsed_outcome(world.first[layout.outcome(job_id)])
        if isinstance(outcome, Failed) and outcome.code == "cancelled":
            raise Violation(f"job {job_id} was cancelled although a client was subscribed")


def _check_failed_events(world: World) -> None:
    """Check that notifications become dead letters only if their clients are gone."""
    for notification in map(parse_notification, world.failed_events.bodies):
        if notification and notification.subscriber.reply_to.connection_id in world.inboxes:
            raise Violation(f"the notification of {notification.job_id} was delivered, and repeated")


def _check_not_early(world: World, promises: Promises) -> None:
    """Check that previews are deleted after they have expired, by clocks that differ by seconds."""
    if promises.deletion_begun:
        return
    written = {event.key: event.at for event in world.history if event.body is not None}
    for event in world.history:
        is_deletion = event.body is None and event.key.startswith(layout.PREVIEWS)
        if not is_deletion or not _has_succeeded(world, layout.id_in(event.key, layout.PREVIEWS)):
            continue
        if event.at < written[event.key] + SETTINGS.preview_retention - CLOCKS_DIFFER:
            raise Violation(f"{event.key} was deleted before it expired")


def _has_succeeded(world: World, job_id: str) -> bool:
    body = world.first.get(layout.outcome(job_id))
    return body is not None and not isinstance(parsed_outcome(body), Failed)


def _markers(world: World) -> list[str]:
    keys = world.objects["bucket"]
    markers = [key for key in keys if key.startswith(layout.IN_FLIGHT)]
    return [f"{key} remains" for key in markers if layout.outcome(layout.job_id_in_flight(key)) in keys]


def _is_before(world: World, key: str, other: str) -> bool:
    """Return whether a key was written, and was first written before another one."""
    numbers = world.first_numbers
    return key in numbers and numbers[key] < numbers.get(other, len(numbers))
