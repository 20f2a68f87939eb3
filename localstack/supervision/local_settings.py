"""Settings for running everything on one machine, in addition to those of the services."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from environments import ROOT
from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from pipeline.access.owners import OWNER_MAX
from pipeline.environment import EnvironmentSettings, SettingsError, load
from pipeline.settings import Settings

# Variables that make, Python and libraries read.
OTHER_VARIABLES = re.compile(
    r"(AWS|CUDA|HF|HUGGINGFACE|MKL|OMP|OTEL|PIP|PYTORCH|SSL|TOKENIZERS|TORCH|TRANSFORMERS|UV)_.*"
    r"|PYTHON.*|QWEN_VARIANT|UV|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)


class LocalSettings(EnvironmentSettings):
    """Settings of the supervisor only.  The description of each field is also the row in docs/settings.md."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, extra="ignore", case_sensitive=False)

    data_dir: Path = Field(
        Path("data"),
        description="Folder of the embedded storage, relative to the repository",
    )
    embedded_aws: bool = Field(
        True,
        description="Start an embedded S3 and SQS if `AWS_ENDPOINT_URL` is not set. `off`: use AWS",
    )

    store_port: int = Field(
        0, ge=0, le=65535, description="Port of the embedded S3 and SQS on the loopback interface. 0: any free port"
    )

    first_key_owner: str | None = Field(
        None,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        max_length=OWNER_MAX,
        description="If keys are required and none exists, create a key of this owner with all scopes, and print "
        "it. The images set `me`",
    )

    @field_validator("data_dir")
    @classmethod
    def _is_folder(cls, value: Path) -> Path:
        if (ROOT / value.expanduser()).is_file():
            raise ValueError("should be a folder, or not be there yet")
        return value

    @property
    def data_folder(self) -> Path:
        """Absolute path of `data_dir`."""
        return (ROOT / self.data_dir.expanduser()).resolve()

    def uses_embedded_aws(self, settings: Settings) -> bool:
        """Return whether a run starts the embedded AWS: it is on, and no endpoint is set."""
        return self.embedded_aws and not (settings.endpoint_for("s3") or settings.endpoint_for("sqs"))


def apply_arguments(arguments: Iterable[str]) -> None:
    """Set environment variables given as `NAME=VALUE`.

    Raises
    ------
    SettingsError
        A name is not that of a setting, nor a variable of a library.
    """
    known = {name.upper() for kind in (Settings, LocalSettings) for name in kind.model_fields}
    problems = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals:
            problems.append(f"{argument}: settings are given as NAME=VALUE")
        elif name.upper() not in known and not OTHER_VARIABLES.fullmatch(name):
            closest = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"did you mean {closest[0]}?" if closest else "see docs/settings.md"
            problems.append(f"{name}: there is no such setting; {hint}")
        else:
            os.environ[name] = value
    if problems:
        raise SettingsError("\n".join(problems))


def load_local_settings() -> LocalSettings:
    """Read the settings from the environment; see `pipeline.settings.load_settings`."""
    return load(LocalSettings)
