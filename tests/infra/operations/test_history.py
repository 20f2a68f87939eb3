"""The history of deployments."""

import pytest

from infra.operations import history
from infra.operations.clients import Clients
from infra.operations.environment import Refused
from infra.operations.history import Version, note_version, read_history, version_before


def test_history_previous_version(clients: Clients) -> None:
    assert read_history(clients.ssm, "s") == []
    versions = [
        Version(commit, tag, "2026-01-01") for commit, tag in (("a", ""), ("a", "v1"), ("b", "v1"), ("b", "v1"))
    ]
    for version in versions:
        note_version(clients.ssm, "s", version)
    assert read_history(clients.ssm, "s") == versions
    assert version_before(versions) == versions[1]
    with pytest.raises(Refused, match="nothing to go back to"):
        version_before(versions[:1])


def test_history_fits_into_parameter(clients: Clients) -> None:
    for number in range(2 * history.KEPT):
        note_version(
            clients.ssm, "s", Version("0" * 40 + "-dirty", "v" * 128, f"2026-01-01T00:00:{number:02}+00:00")
        )
    assert len(read_history(clients.ssm, "s")) == history.KEPT
    text = clients.ssm.get_parameter(Name="/s/deployments")["Parameter"]["Value"]
    assert len(text) <= 4096  # the maximum size of a standard parameter


def test_history_before_first_image_refused() -> None:
    versions = [Version("a", "", "2026-01-01"), Version("a", "v1", "2026-01-02")]
    with pytest.raises(Refused, match="v1 is the first image"):
        version_before(versions)
