"""The archives of the built functions."""

import os
import re
from pathlib import Path
from zipfile import ZipFile

from infra.package.archives import share_archives

TEMPLATE = (
    "Globals:\n  Function:\n    CodeUri: package\nResources:\n  {name}:\n    Properties:\n      CodeUri: {name}\n"
)


def test_functions_with_same_files_share_archive(tmp_path: Path) -> None:
    for stack, name in (("Http", "Api"), ("Background", "Sweep"), ("Sockets", "Connect")):
        (tmp_path / stack / name).mkdir(parents=True)
        (tmp_path / stack / "template.yaml").write_text(TEMPLATE.format(name=name))
    (tmp_path / "Http/Api/code.py").write_text("api = 1\n")
    (tmp_path / "Background/Sweep/code.py").write_text("shared = 1\n")
    os.link(tmp_path / "Background/Sweep/code.py", tmp_path / "Sockets/Connect/code.py")
    share_archives(tmp_path)
    api, sweep, connect = (_archive(tmp_path / stack) for stack in ("Http", "Background", "Sockets"))
    assert sweep == connect != api
    assert ZipFile(api).read("code.py") == b"api = 1\n"
    assert ZipFile(sweep).read("code.py") == b"shared = 1\n"


def _archive(stack: Path) -> str:
    default, own = re.findall(r"CodeUri: (\S+)", (stack / "template.yaml").read_text())
    assert default == "package"
    return str(own)
