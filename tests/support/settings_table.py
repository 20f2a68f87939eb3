"""The table of `docs/settings.md`, generated from the settings.

`PYTHONPATH=.:localstack python -m tests.support.settings_table` writes it into the page.
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from supervision.local_settings import LocalSettings

from pipeline.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
MARKER = "<!-- settings -->\n"


def rows() -> list[str]:
    """Return one row for each setting: name, default, meaning."""
    fields = [*Settings.model_fields.items(), *LocalSettings.model_fields.items()]
    return [f"| `{name.upper()}` | {_shown(field)} | {field.description} |" for name, field in fields]


def table() -> str:
    """Return the whole table."""
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows()]) + "\n"


def _shown(field: FieldInfo) -> str:
    default: Any = field.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def write() -> None:
    """Replace the table under the marker."""
    before, _ = PAGE.read_text().split(MARKER)
    PAGE.write_text(f"{before}{MARKER}\n{table()}")


if __name__ == "__main__":
    write()
