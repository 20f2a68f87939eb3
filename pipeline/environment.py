"""Reading settings from environment variables."""

from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


class EnvironmentSettings(BaseSettings):
    """Settings from arguments and the environment; looking elsewhere too doubles the time to read them."""

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
    """The environment has an invalid value; the message names each setting and its valid values."""


SettingsT = TypeVar("SettingsT", bound=EnvironmentSettings)


def load(kind: type[SettingsT]) -> SettingsT:
    """Read a settings class from the environment.

    Raises
    ------
    SettingsError
        A value is invalid; the message has one line per setting.
    """
    try:
        return kind()
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from None


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0]).upper() if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ")
        given = f" (it is {str(problem['input'])[:80]!r})" if name else ""
        lines.append(f"{name}: {message}{given}" if name else message)
    return lines
