"""The limit of an owner's saved voices."""

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.errors import QuotaStatus, TooMany
from pipeline.ids import Owner

VOICE_RETRY_SECONDS = 60


async def check_quota(resources: Resources, owner: Owner, *, except_for: str = "") -> None:
    """Check that an owner may save one more voice, before its name is claimed.

    Concurrent saves don't count each other, so they can exceed the limit by their number.  The voice `except_for`
    is not counted: the one that is being saved may exist already.

    Raises
    ------
    TooMany
        The limit of saved voices is reached.
    """
    limit = resources.settings.voices_per_owner
    if owner is None or limit == 0:
        return
    found = 0
    async for voice_id in resources.voices.list_folders(layout.voices(owner)):
        found += voice_id != except_for
        if found >= limit:
            raise _too_many_voices(limit)


def _too_many_voices(limit: int) -> TooMany:
    return TooMany(
        f"Limit of {limit} saved voices reached. Delete one to save another.",
        retry_after=VOICE_RETRY_SECONDS,
        quota_status=QuotaStatus("voices", limit, 0),
    )
