"""The limit of an owner's saved voices."""

from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.errors import QuotaStatus, TooMany
from pipeline.ids import Owner

VOICE_RETRY_SECONDS = 60


async def check_quota(resources: Resources, owner: Owner, *, besides: str = "") -> None:
    """Make sure that an owner may save one more voice; called before it is claimed.

    Those who save at the same moment don't see each other, so that there can be as many too many as they are.
    The voice that is saved, `besides`, makes no further one when it is there already.

    Raises
    ------
    TooMany
        As many of the owner's as may be are saved.
    """
    limit = resources.settings.voices_per_owner
    if owner is None or limit == 0:
        return
    found = 0
    async for voice_id in resources.voices.list_folders(layout.voices(owner)):
        found += voice_id != besides
        if found >= limit:
            raise _too_many_voices(limit)


def _too_many_voices(limit: int) -> TooMany:
    return TooMany(
        f"You may have {limit} voices saved, and as many are; delete one to save another.",
        retry_after=VOICE_RETRY_SECONDS,
        quota_status=QuotaStatus("voices", limit, 0),
    )
