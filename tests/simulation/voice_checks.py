"""The guarantees about voices, their deletion and the audit log."""

from collections import Counter, defaultdict
from collections.abc import Collection

from pipeline.access.audit.chain import lines
from pipeline.access.audit.verification import verify
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import VoiceMetadata, parse_outcome
from pipeline.contract.revocations import Certificate, DerivedJob
from tests.simulation.clients import OWNER, Promises
from tests.simulation.world import World


class Violation(AssertionError):
    """A guarantee is broken for good."""


def open_voices(world: World, promises: Promises) -> list[str]:
    """Return the voices that are neither complete nor absent.

    Raises
    ------
    Violation
        A saved voice is lost or damaged.
    """
    kept = [
        (voice_id, session_id) for voice_id, session_id in promises.saved if voice_id not in promises.deletion_begun
    ]
    for voice_id, session_id in kept:
        stored = world.objects["voices"].get(layout.voice(OWNER, voice_id).metadata)
        if stored is None:
            raise Violation(f"voice {voice_id} was saved, and is gone")
        metadata = VoiceMetadata.model_validate_json(stored.body)
        if not metadata.is_ready or metadata.reference_id != session_id:
            raise Violation(f"voice {voice_id} was saved, and is {metadata.status} of {metadata.reference_id}")
    if len({session_id for voice_id, session_id in kept if voice_id == "nova"}) > 1:
        raise Violation("two saves of one name were acknowledged")
    stored_voices = {key: found for key, found in world.objects["voices"].items() if key.endswith("metadata.json")}
    states = [_state(world, VoiceMetadata.model_validate_json(found.body)) for found in stored_voices.values()]
    return [state for state in states if state] + _remains(world)


def _state(world: World, voice: VoiceMetadata) -> str | None:
    if not voice.is_ready:
        return f"voice {voice.voice_id} is {voice.status}"
    if voice.source_file not in world.objects["voices"]:
        raise Violation(f"voice {voice.voice_id} is ready without its recording")
    if voice.embedding_file not in world.objects["voices"] and not _prompt_failed(world, voice):
        return f"voice {voice.voice_id} has no prompt"
    return None


def _prompt_failed(world: World, voice: VoiceMetadata) -> bool:
    """Return whether the job that makes a voice's prompt has failed. Then the first preview makes it."""
    bodies = [one.body for key, one in world.objects["bucket"].items() if layout.job_id_of_outcome(key)]
    outcomes = [parse_outcome(body) for body in bodies]
    return any(
        outcome.kind == "embedding" and outcome.status == "failed" and outcome.source.voice_id == voice.voice_id
        for outcome in outcomes
    )


def _remains(world: World) -> list[str]:
    """Return the objects without a voice, of a save or a deletion that was interrupted."""
    stored = world.objects["voices"]
    folders = {key.rpartition("/")[0] + "/" for key in stored if key.endswith("metadata.json")}
    voices = [key for key in stored if key.startswith(layout.VOICES) and not key.endswith("metadata.json")]
    return [f"{key} remains" for key in voices if not any(key.startswith(folder) for folder in folders)]


def check_deleted(world: World, voice_id: str) -> None:
    """Check a voice when its deletion is acknowledged. A write in progress may leave a file for a minute."""
    stored = world.objects["voices"].get(layout.voice(OWNER, voice_id).metadata)
    voice = VoiceMetadata.model_validate_json(stored.body) if stored else None
    # One without a revocation is a later save that has failed.
    if voice and voice.status == "deleting" and voice.revocation_id:
        raise Violation(f"the deletion of {voice_id} was acknowledged too early")


def check_removed(world: World) -> None:
    """Check that nothing made from a deleted voice is stored when its certificate is completed, and at the end."""
    live, completed = set[str](), dict[str, Certificate]()
    derived: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    for event in world.history:
        if event.body is None:
            live.discard(event.key)
            continue
        live.add(event.key)
        if event.key.startswith(layout.DERIVED):
            reference_id = event.key.split("/")[-2]
            marker = DerivedJob.model_validate_json(event.body)
            derived[reference_id].append((layout.job_id_of_derived(event.key), marker.voice_id))
        elif event.key.startswith(layout.REVOCATIONS):
            certificate = Certificate.model_validate_json(event.body)
            if certificate.completed_at:
                completed[event.key] = certificate
                _check_left(certificate, live, derived[certificate.reference_id])
    for certificate in completed.values():
        _check_left(certificate, live, derived[certificate.reference_id])


def _check_left(
    certificate: Certificate, live: Collection[str], derived: Collection[tuple[str, str | None]]
) -> None:
    jobs = [job_id for job_id, voice_id in derived if voice_id in {None, certificate.voice_id}]
    keys = {key for job_id in jobs for key in (layout.preview(job_id), layout.request(job_id))} & set(live)
    session = layout.session(certificate.reference_id).folder
    files = layout.voice_reference(OWNER, certificate.voice_id, certificate.reference_id).folder
    keys |= {key for key in live if key.startswith((session, files))}
    if keys:
        raise Violation(f"{sorted(keys)} remain of the deleted voice {certificate.voice_id}")


def check_expired(world: World) -> None:
    """Check that previews have been deleted, two minutes after the last of them has expired."""
    if left := [key for key in world.objects["bucket"] if key.startswith(layout.PREVIEWS)]:
        raise Violation(f"{left} remain after their expiry")


async def check_audit(world: World, resources: Resources, promises: Promises) -> None:
    """Check the audit log of the owner after a sweep: its chain, and the acknowledged changes of voices."""
    if any(key.startswith(layout.AUDIT_PENDING) for key in world.objects["bucket"]):
        return  # the next sweep appends them
    chain = layout.audit_chain(OWNER)
    await verify(resources, chain)
    entries = [line.entry() async for line in lines(resources, chain)]
    ids = [entry.entry_id for entry in entries if entry]
    if len(ids) != len(set(ids)):
        raise Violation("an audit entry was appended twice")
    logged = Counter((entry.action, entry.voice_id) for entry in entries if entry)
    for (action, voice_id), count in logged.items():
        if action == "saved" and count > logged["deleted", voice_id] + 1:
            raise Violation(f"the save of {voice_id} was logged twice")
    missing = {("saved", voice_id) for voice_id, _ in promises.saved} - logged.keys()
    missing |= {("deleted", voice_id) for voice_id in promises.deleted} - logged.keys()
    if missing:
        raise Violation(f"not in the audit log: {sorted(missing)}")
