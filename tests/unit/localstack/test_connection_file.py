"""The connection file names the embedded AWS of a run that is alive."""

from pathlib import Path

from embedded.storage import connection_file
from embedded.storage.connection_file import Connection, read, write
from embedded.storage.data_folder import lock_of, run_folder_of

from pipeline.settings import Settings

SETTINGS = Settings(bucket="my-bucket", voices_bucket=None, aws_region="eu-west-1")


def test_connection_of_live_run(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        write(tmp_path, 4567, SETTINGS)
        found = read(tmp_path)
    buckets = {"voices_bucket": "my-bucket", "audit_bucket": "my-bucket"}
    assert found == Connection(port=4567, region="eu-west-1", bucket="my-bucket", **buckets)
    assert Settings.model_validate({k.lower(): v for k, v in found.environment().items()}) == SETTINGS.model_copy(
        update=buckets
    )


def test_connection_before_ready(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        assert read(tmp_path) is None


def test_connection_after_run(tmp_path: Path) -> None:
    write(tmp_path, 4567, SETTINGS)
    assert (run_folder_of(tmp_path) / connection_file.FILE).exists()
    assert read(tmp_path) is None


def test_connection_read_has_no_side_effect(tmp_path: Path) -> None:
    assert read(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    write(tmp_path, 4567, SETTINGS)
    read(tmp_path)
    with lock_of(tmp_path).acquire(timeout=0):
        pass


def test_damaged_connection_file(tmp_path: Path) -> None:
    write(tmp_path, 4567, SETTINGS)
    (run_folder_of(tmp_path) / connection_file.FILE).write_text("{")
    with lock_of(tmp_path):
        assert read(tmp_path) is None
