"""The first API key, which a container prints at its first start: beyond loopback every caller needs a key."""

from pipeline.access import api_keys
from pipeline.clients.resources import Resources, connect
from pipeline.settings import Settings


async def print_first_key(settings: Settings, owner: str | None) -> None:
    """Print a new key where one is required and none exists."""
    async with connect(settings) as resources:
        key = await make_first_key(resources, owner)
    if key:
        print(f"\nThe first API key, which is shown only now:\n\nKEY={key}\n", flush=True)


async def make_first_key(resources: Resources, owner: str | None) -> str | None:
    """Create a key with all scopes, unless keys are not required or one exists; return its text.

    Raises
    ------
    Unavailable
        The storage does not respond.
    """
    if not (owner and resources.settings.wants_keys) or await api_keys.list_keys(resources):
        return None
    text, _ = await api_keys.make(resources, owner=owner, name="first key", scopes=api_keys.SCOPES, expires_at=None)
    return text
