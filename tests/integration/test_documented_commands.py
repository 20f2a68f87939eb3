"""Every command in README, CONTRIBUTING and docs: its program exists and knows the arguments."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.settings_table import rows

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
MAKEFILE = (ROOT / "Makefile").read_text()

PYTHON = re.compile(r"(.*/)?python3?(\.exe)?")
ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)
SETTINGS = {row.split("`")[1] for row in rows()}
# Set for make itself, or read by libraries.
VARIABLES = set(re.findall(r"\$\((\w+)\)", MAKEFILE))
LIBRARIES = re.compile(r"(AWS|HF|OMP|PYTHON)\w+")


def commands() -> Iterator[str]:
    """Yield the commands in code blocks and in inline code."""
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"^```(?:console|sh|bash|shell|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        yield from (line.strip() for line in lines)


def programs() -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that runs make or Python."""
    for command in commands():
        for part in re.split(r"&&|\|\||;|\$\(|\|", command):
            try:
                words = shlex.split(part.rstrip(") "), comments=True)
            except ValueError:  # prose in inline code
                continue
            rest = [word for word in words if not ASSIGNMENT.fullmatch(word)]
            name = next((word for word in words if not ASSIGNMENT.fullmatch(word)), "")
            if (name == "make" or PYTHON.fullmatch(name)) and len(rest) > 1 and "…" not in part:
                yield tuple(words)


MAKE = sorted({words for words in programs() if "make" in words and not any(map(PYTHON.fullmatch, words))})
PYTHONS = sorted(
    {
        words[words.index(next(filter(PYTHON.fullmatch, words))) + 1 :]
        for words in programs()
        if any(map(PYTHON.fullmatch, words))
    }
)


def test_commands_are_found() -> None:
    assert len(MAKE) > 15
    assert len(PYTHONS) > 8


@pytest.mark.parametrize("words", MAKE, ids=" ".join)
def test_make_command(words: tuple[str, ...]) -> None:
    for word in words:
        if assignment := ASSIGNMENT.fullmatch(word):
            name = assignment[1]
            assert name in SETTINGS | VARIABLES or LIBRARIES.fullmatch(name), f"unknown variable {name}"
        elif not word.startswith("-") and word != "make":
            assert re.search(rf"^{re.escape(word)}\b.*:", MAKEFILE, re.MULTILINE), f"no target {word}"


@pytest.mark.parametrize("words", PYTHONS, ids=" ".join)
def test_python_command(words: tuple[str, ...]) -> None:
    program, arguments = (words[:2], words[2:]) if words[0] == "-m" else (words[:1], words[1:])
    if program[-1] in {"venv", "pip", "pytest"}:
        paths = [word for word in arguments if re.fullmatch(r"[\w./-]+\.(py|lock)|tests(/\w+)*", word)]
        assert all((ROOT / path).exists() for path in paths)
        return
    if program[-1] == "localstack/keys.py":  # passes its arguments on
        program = ("-m", "functions.keys")
    file = Path(*program[1].split(".")) if program[0] == "-m" else Path(program[0]).with_suffix("")
    text = next(path for path in (ROOT / f"{file}.py", ROOT / file / "__main__.py") if path.exists()).read_text()
    if program[-1] == "functions.keys":
        text = _help((*program, *arguments[:1]))
    elif "ArgumentParser" in text and "qwen" not in file.name:  # torch is installed for the second tier
        text = _help(program)
    for flag in (argument for argument in arguments if argument.startswith("-")):
        assert flag in text, f"{flag} is not in the help"


@cache
def _help(command: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
