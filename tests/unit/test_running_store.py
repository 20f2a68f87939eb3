"""Only a run that lives says where its store is."""

from pathlib import Path

import running_store
from running_store import RunningStore, find, leave, lock_of

from pipeline.settings import Settings

SETTINGS = Settings(bucket="my-bucket", voices_bucket=None, aws_region="eu-west-1")


def test_a_living_run_is_found_with_what_it_calls_things(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        leave(tmp_path, 4567, SETTINGS)
        found = find(tmp_path)
    assert found == RunningStore(port=4567, region="eu-west-1", bucket="my-bucket", voices_bucket="my-bucket")
    assert Settings.model_validate({k.lower(): v for k, v in found.environment().items()}) == SETTINGS.model_copy(
        update={"voices_bucket": "my-bucket"}
    )


def test_one_that_is_not_ready_is_not_found(tmp_path: Path) -> None:
    with lock_of(tmp_path):
        assert find(tmp_path) is None


def test_one_that_has_ended_is_not_found_though_its_file_is(tmp_path: Path) -> None:
    leave(tmp_path, 4567, SETTINGS)
    assert (running_store.run_folder_of(tmp_path) / running_store.FILE).exists()
    assert find(tmp_path) is None


def test_looking_keeps_no_run_from_starting_and_makes_no_folder(tmp_path: Path) -> None:
    assert find(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    leave(tmp_path, 4567, SETTINGS)
    find(tmp_path)
    with lock_of(tmp_path).acquire(timeout=0):
        pass


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    leave(tmp_path, 4567, SETTINGS)
    (running_store.run_folder_of(tmp_path) / running_store.FILE).write_text("{")
    with lock_of(tmp_path):
        assert find(tmp_path) is None
