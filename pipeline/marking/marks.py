"""The marks that the settings choose. Each process checks the mark that it adds."""

import structlog

from pipeline.environment import SettingsError
from pipeline.settings import Mark, Marking, Settings

CHOSEN: dict[Marking, frozenset[Mark]] = {
    "auto": frozenset({"watermark", "c2pa"}),
    "watermark": frozenset({"watermark"}),
    "c2pa": frozenset({"c2pa"}),
    "both": frozenset({"watermark", "c2pa"}),
    "off": frozenset(),
}

log = structlog.get_logger(__name__)


def is_active(mark: Mark, settings: Settings, *, missing: str | None) -> bool:
    """Return whether this process adds a mark. Call it once, at start.

    Parameters
    ----------
    mark
        A mark that this process can add.
    settings
        The settings.
    missing
        The package without which the mark is unavailable. None if it is available.

    Raises
    ------
    SettingsError
        The mark is chosen and unavailable, and `MARK_REQUIRED` is set.
    """
    if mark not in CHOSEN[settings.mark]:
        return False
    if missing is None:
        return True
    if settings.mark_required:
        raise SettingsError(
            f"MARK_REQUIRED: MARK={settings.mark} needs the package {missing}, which is not installed. "
            "Install it, or choose another MARK"
        )
    if settings.mark != "auto":
        log.warning("mark is unavailable", mark=mark, package=missing)
    return False
