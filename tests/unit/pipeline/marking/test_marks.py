import pytest
from structlog.testing import capture_logs

from pipeline.environment import SettingsError
from pipeline.marking.marks import is_active
from pipeline.settings import Marking, Settings


@pytest.mark.parametrize(
    ("mark", "watermark", "c2pa"),
    [
        ("auto", True, True),
        ("both", True, True),
        ("watermark", True, False),
        ("c2pa", False, True),
        ("off", False, False),
    ],
)
def test_active_marks_by_setting(mark: Marking, watermark: bool, c2pa: bool) -> None:
    settings = Settings(mark=mark, mark_required=True)
    assert is_active("watermark", settings, missing=None) == watermark
    assert is_active("c2pa", settings, missing=None) == c2pa


@pytest.mark.parametrize(("mark", "warnings"), [("auto", 0), ("both", 1)])
def test_unavailable_mark_is_inactive(mark: Marking, warnings: int) -> None:
    with capture_logs() as logs:
        assert not is_active("c2pa", Settings(mark=mark), missing="c2pa-python")
    assert len(logs) == warnings


@pytest.mark.parametrize("mark", ["auto", "both", "c2pa"])
def test_required_mark_must_be_available(mark: Marking) -> None:
    with pytest.raises(SettingsError, match="c2pa-python"):
        is_active("c2pa", Settings(mark=mark, mark_required=True), missing="c2pa-python")


def test_mark_not_chosen_may_be_unavailable() -> None:
    assert not is_active("c2pa", Settings(mark="watermark", mark_required=True), missing="c2pa-python")
