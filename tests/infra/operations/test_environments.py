"""The environments in `samconfig.toml`."""

from pathlib import Path

import pytest

from infra.operations.environment import Refused, load_environment
from tests.infra.cloudformation import template


def test_environments_are_deployable() -> None:
    environments = [load_environment(name) for name in ("default", "staging", "production")]
    assert len({environment.stack for environment in environments}) == 3
    known = template("root")["Parameters"]
    for environment in environments:
        assert set(environment.parameters) <= set(known)


def test_environment_image_tag_refused(tmp_path: Path) -> None:
    """`sam deploy --guided` writes it there, and the next code deployment would roll the workers back."""
    config = tmp_path / "samconfig.toml"
    config.write_text('[default.deploy.parameters]\nstack_name = "x"\nparameter_overrides = ["ImageTag=v1"]\n')
    with pytest.raises(Refused, match="ImageTag"):
        load_environment("default", config)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("elsewhere", "", "no environment elsewhere; it has default"),
        ("default", 'parameter_overrides = ["MaxWorkers"]', "Name=value"),
    ],
)
def test_environment_invalid(name: str, text: str, says: str, tmp_path: Path) -> None:
    config = tmp_path / "samconfig.toml"
    config.write_text(f'version = 0.1\n[default.deploy.parameters]\nstack_name = "x"\n{text}\n')
    with pytest.raises(Refused, match=says):
        load_environment(name, config)


def test_environment_region_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused, match="AWS_REGION"):
        load_environment("default")
