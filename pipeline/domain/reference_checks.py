"""Stored results of the checks of reference recordings, and the gate before a voice is saved."""

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import JobAnalysis, ReferenceCheck
from pipeline.errors import ReferenceRejected, Unavailable


async def of_session(resources: Resources, session_id: str) -> ReferenceCheck | None:
    """Return the result for a session, or None if its recording has not been checked."""
    key = layout.session(session_id).check
    return ReferenceCheck.parse_stored(await resources.bucket.get(key), key=key)


async def of_job(resources: Resources, job_id: str) -> JobAnalysis | None:
    """Return what was measured for a preview after its outcome, or None."""
    key = layout.analysis(job_id)
    return JobAnalysis.parse_stored(await resources.bucket.get(key), key=key)


async def require_passed(resources: Resources, session_id: str) -> None:
    """Check that a voice may be saved, if `QUALITY` is `require`.

    Raises
    ------
    ReferenceRejected
        The checks have found faults.
    Unavailable
        The recording has not been checked, or a check is unavailable.
    """
    if resources.settings.quality != "require":
        return
    check = await of_session(resources, session_id)
    if check is None:
        raise Unavailable("The recording has not been checked yet. Try again, or send POST /references/check.")
    if check.warnings:
        faults = " ".join(f"{fault.code}: {fault.message} {fault.advice}" for fault in check.warnings)
        raise ReferenceRejected(
            f"The recording was rejected by the checks. {faults} Upload another recording.", field="session_id"
        )
    if check.unavailable:
        raise Unavailable(f"The worker lacks packages for these checks: {', '.join(check.unavailable)}.")
