"""Restarts the embedded AWS when its files were removed: it would still list the deleted objects."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import structlog
from supervision.processes import ChildProcess

from embedded.configuration import ACCOUNT
from pipeline.settings import Settings

log = structlog.get_logger()

CHECK_SECONDS = 2.0


async def restart_when_files_are_lost(store: ChildProcess, folder: Path, settings: Settings) -> None:
    """Check every two seconds, until cancelled, that the folders of the buckets exist."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        lost = list(_missing_folders(folder, settings)) if store.ready.is_set() else []
        if lost:
            log.error("files of the embedded AWS were removed; restarting it without them", folders=lost)
            await store.restart()


def _missing_folders(folder: Path, settings: Settings) -> Iterator[str]:
    for bucket in settings.buckets:
        if not (folder / ACCOUNT / bucket).is_dir():
            yield str(folder / ACCOUNT / bucket)
