"""The README's table of settings, made from the settings themselves.

`PYTHONPATH=.:localstack python -m tests.readme_settings` writes it into the README, under its marker.
"""

from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from supervision.local_settings import LocalSettings

from pipeline.settings import Settings

README = Path(__file__).parents[1] / "README.md"
MARKER = "<!-- settings -->\n"


def rows() -> list[str]:
    """Give one row a setting: name, default, meaning."""
    fields = [*Settings.model_fields.items(), *LocalSettings.model_fields.items()]
    return [f"| `{name.upper()}` | {_shown(field)} | {field.description} |" for name, field in fields]


def table() -> str:
    """Give the whole table."""
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows()]) + "\n"


def _shown(field: FieldInfo) -> str:
    default: Any = field.default
    if default is None:
        return ""
    if isinstance(default, bool):
        return "`on`" if default else "`off`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def write() -> None:
    """Put the table in place of the one that stands under the marker."""
    before, rest = README.read_text().split(MARKER)
    after = rest[rest.index("\n## ") :]
    README.write_text(f"{before}{MARKER}\n{table()}{after}")


if __name__ == "__main__":
    write()
