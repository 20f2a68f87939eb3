"""Reading settings from environment variables."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from pipeline.errors import validation_message


class EnvironmentSettings(BaseSettings):
    """Settings from arguments and the environment only: other sources double the time to read them."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return arguments and environment."""
        return init_settings, env_settings


class SettingsError(ValueError):
    """The environment has an invalid value. The message names each setting and its valid values."""


SettingsT = TypeVar("SettingsT", bound=EnvironmentSettings)


def load(kind: type[SettingsT]) -> SettingsT:
    """Read a settings class from the environment.

    Raises
    ------
    SettingsError
        A value is invalid. The message has one line per setting.
    """
    try:
        return kind()
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error, kind))) from None


def _explain(error: ValidationError, kind: type[EnvironmentSettings]) -> Iterator[str]:
    secrets = {name for name, field in kind.model_fields.items() if "SecretStr" in str(field.annotation)}
    for problem in error.errors():
        message = validation_message(problem)
        if not problem["loc"]:  # settings that don't agree with each other, which the message names
            yield message
            continue
        name = str(problem["loc"][0])
        given = "" if name in secrets else f" (it is {str(problem['input'])[:80]!r})"
        yield f"{name.upper()}: {message}{given}"


def pem(value: str, name: str) -> str:
    """Return the value of a setting that is either PEM or the path of a file.

    Raises
    ------
    SettingsError
        The file can't be read.
    """
    if value.lstrip().startswith("-----BEGIN"):
        return value
    try:
        return Path(value).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: the file can't be read ({error})") from None
