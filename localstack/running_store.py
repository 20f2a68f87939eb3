"""Where the store of a running `make run` is: left in its data folder for other programs of this machine."""

from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.settings import Settings

FILE = "store.json"


class RunningStore(BaseModel):
    """`DATA_DIR/run/store.json`: the port of the embedded AWS, and what its run calls things."""

    model_config = ConfigDict(frozen=True)

    port: int
    region: str
    bucket: str
    voices_bucket: str

    def environment(self) -> dict[str, str]:
        """Give the settings by which the run's services find what is stored."""
        return {"AWS_REGION": self.region, "BUCKET": self.bucket, "VOICES_BUCKET": self.voices_bucket}


def lock_of(data: Path) -> FileLock:
    """Give the lock that a run holds on its data folder for as long as it lives."""
    return FileLock(data / "in-use.lock")


def run_folder_of(data: Path) -> Path:
    """Tell where a run leaves what is of interest while it lasts."""
    return data / "run"


def leave(data: Path, port: int, settings: Settings) -> None:
    """Say where the store of this run is."""
    store = RunningStore(
        port=port,
        region=settings.aws_region,
        bucket=settings.bucket,
        voices_bucket=settings.bucket_for_voices,
    )
    folder = run_folder_of(data)
    folder.mkdir(exist_ok=True)
    unfinished = folder / f"{FILE}.new"
    unfinished.write_text(store.model_dump_json())
    unfinished.replace(folder / FILE)


def find(data: Path) -> RunningStore | None:
    """Find the store of the run that has this folder; None when none runs, or its store is not ready yet."""
    try:
        store = RunningStore.model_validate_json((run_folder_of(data) / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    # A run that has ended leaves the file behind, and its port may be somebody else's by now.
    return store if _is_held(lock_of(data)) else None


def _is_held(lock: FileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
