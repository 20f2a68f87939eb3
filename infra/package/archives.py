"""The archives of the built functions."""

import re
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile


def share_archives(folder: Path) -> None:
    """Archive the functions in the folder of `sam build`, those with the same files once.

    The SAM CLI would compress the folder of each function. It uploads an archive as it is, and the same one once.
    """
    archives: dict[frozenset[tuple[Path, int]], Path] = {}
    for template in folder.glob("*/template.yaml"):
        text = template.read_text()
        for name in re.findall(r"(?m)^      CodeUri: (\w+)$", text):
            content = template.parent / name
            files = [path.relative_to(content) for path in content.rglob("*") if path.is_file()]
            inodes = frozenset((path, (content / path).stat().st_ino) for path in files)
            if inodes not in archives:
                archives[inodes] = content.with_suffix(".zip")
                with ZipFile(archives[inodes], "w", ZIP_DEFLATED) as archive:
                    for path in files:
                        archive.write(content / path, path)
            text = text.replace(f"      CodeUri: {name}\n", f"      CodeUri: {archives[inodes]}\n")
        template.write_text(text)
