"""Prints a software bill of materials of lock files and Debian packages, in CycloneDX's JSON format.

    python requirements/sbom.py requirements/local.lock requirements/models.lock

The image contains it as `/app/sbom.json`. It lists what the lock files install on this machine, and the packages of
Debian if `dpkg-query` is there.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

Component = dict[str, str]
REQUIREMENT = re.compile(r"^[A-Za-z0-9].*?(?=\s*\\?$)", re.MULTILINE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the list of components, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", type=Path, nargs="+")
    components = [*python_components(parser.parse_args(arguments).locks), *debian_components()]
    json.dump(document(components), sys.stdout, indent=1)
    return 0


def document(components: Iterable[Component]) -> dict[str, object]:
    """Return the document with each component once, sorted by its package URL."""
    unique = {one["purl"]: one for one in components}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "components": [unique[purl] for purl in sorted(unique)],
    }


def python_components(locks: Iterable[Path]) -> Iterator[Component]:
    """Yield the locked versions whose markers hold on this machine."""
    for lock in locks:
        for line in REQUIREMENT.findall(lock.read_text()):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                version = str(requirement.specifier).removeprefix("==")
                yield _component(requirement.name, version, f"pkg:pypi/{requirement.name.lower()}@{version}")


def debian_components() -> Iterator[Component]:
    """Yield the installed Debian packages."""
    if not shutil.which("dpkg-query"):
        return
    command = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\n"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        name, version, architecture = line.split()
        yield _component(name, version, f"pkg:deb/debian/{name}@{version}?arch={architecture}")


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


if __name__ == "__main__":
    sys.exit(main())
