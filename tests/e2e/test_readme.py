"""The commands in the README run unchanged."""

import re
import shlex
import subprocess

import pytest

from tests.e2e.deployment import Deployment
from tests.e2e.stack import ROOT, Stack

# One pytest-xdist worker, so that the tests share a running service.
pytestmark = pytest.mark.xdist_group("deployed")


def test_readme_commands_run(stack: Stack | Deployment) -> None:
    section = (ROOT / "README.md").read_text().split("## Example\n")[1]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    assert block is not None
    script = block[1].replace("http://127.0.0.1:8000", shlex.quote(stack.url))
    assert stack.url in script
    if stack.key:
        script = f'curl() {{ command curl -H "Authorization: Bearer {stack.key}" "$@"; }}\n{script}'
    folder = stack.data.parent
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert '"voice_id":"nova"' in ran.stdout
    for name in ("preview.wav", "again.wav", "later.wav"):
        assert (folder / name).read_bytes()[:4] == b"RIFF"
