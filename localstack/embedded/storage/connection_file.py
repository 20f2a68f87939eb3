"""The connection file, with which local programs find the embedded AWS of a running `make run`."""

from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from embedded.storage.data_folder import lock_of, make_private, run_folder_of, write_private
from pipeline.settings import Settings

FILE = "store.json"


class Connection(BaseModel):
    """`DATA_DIR/run/store.json`: the port of the embedded AWS, and the names in use there."""

    model_config = ConfigDict(frozen=True)

    port: int
    region: str
    bucket: str
    voices_bucket: str
    audit_bucket: str

    def environment(self) -> dict[str, str]:
        """Return the settings with which the services of the run access the storage and queues."""
        buckets = {"VOICES_BUCKET": self.voices_bucket, "AUDIT_BUCKET": self.audit_bucket}
        return {"AWS_REGION": self.region, "BUCKET": self.bucket} | buckets


def write(data: Path, port: int, settings: Settings) -> None:
    """Write the connection file of this run, atomically."""
    connection = Connection(
        port=port,
        region=settings.aws_region,
        bucket=settings.bucket,
        voices_bucket=settings.bucket_for_voices,
        audit_bucket=settings.bucket_for_audit,
    )
    folder = run_folder_of(data)
    make_private(folder)
    write_private(folder / FILE, connection.model_dump_json())


def read(data: Path) -> Connection | None:
    """Return the connection of the run that uses this folder; None if none runs, or it is not ready yet."""
    try:
        connection = Connection.model_validate_json((run_folder_of(data) / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    # The file remains after a run, and another program may use its port by now.
    return connection if _is_held(lock_of(data)) else None


def _is_held(lock: FileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
