"""The voices that were revoked recently: their jobs are stopped, and their prompts dropped."""

from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta

from gpu_runner.dependency_health import Sleep
from pipeline.clients.resources import Resources
from pipeline.contract import layout
from pipeline.contract.records import Request
from pipeline.contract.revocations import Certificate
from pipeline.domain.revocation.derived_objects import voice_deleted
from pipeline.errors import Unavailable
from pipeline.ids import lowest_id

POLL_SECONDS = 2.0
# A job that was accepted while its voice was revoked has ended by then.
REMEMBERED = timedelta(hours=1)


class Revocations:
    """The folders of revoked references, by the revocations of the last hour."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._folders_of: dict[str, Collection[str]] = {}

    async def poll_forever(self, sleep: Sleep, polled: Callable[[], None]) -> None:
        """Read new revocations every `POLL_SECONDS`, and then call `polled`."""
        while True:
            await sleep(POLL_SECONDS)
            with suppress(Unavailable):
                await self.poll()
                polled()

    async def poll(self) -> None:
        """Read new revocations: one listing, and one read for each new one."""
        bucket = self._resources.voices
        oldest = layout.revocation(lowest_id(self._resources.clock() - REMEMBERED))
        keys = [item.key async for item in bucket.list(layout.REVOCATIONS, start_after=oldest)]
        self._folders_of = {key: folders for key, folders in self._folders_of.items() if key in keys}
        for key in keys:
            if key not in self._folders_of and (revoked := Certificate.parse_stored(await bucket.get(key))):
                self._folders_of[key] = revoked.folders

    def covers(self, folder: str) -> bool:
        """Return whether the reference in a folder was revoked."""
        return any(folder in folders for folders in self._folders_of.values())

    def check(self, request: Request) -> None:
        """Raise `VoiceDeleted` if the reference of a request was revoked."""
        if self.covers(layout.reference(request).folder):
            raise voice_deleted()
