"""Every command in README, CONTRIBUTING and docs: its program exists and knows the arguments."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
INSTALLED = {"venv", "pip", "pytest"}
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


# The processes that print the help run once, on one worker of pytest-xdist.
@pytest.mark.xdist_group("documented commands")
@pytest.mark.parametrize("words", PYTHONS, ids=" ".join)
def test_python_command(words: tuple[str, ...]) -> None:
    program, arguments = program_of(words)
    if program[-1] in INSTALLED:
        paths = [word for word in arguments if re.fullmatch(r"[\w./-]+\.(py|lock)|tests(/\w+)*", word)]
        assert all((ROOT / path).exists() for path in paths)
        return
    text = source(program)
    if prints_help(program):
        text = module_helps()[help_of(words)] if program[0] == "-m" else script_help(program)
    for flag in (argument for argument in arguments if argument.startswith("-")):
        assert flag in text, f"{flag} is not in the help"


def program_of(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a program and its arguments."""
    program, arguments = (words[:2], words[2:]) if words[0] == "-m" else (words[:1], words[1:])
    # Passes its arguments on.
    return ("-m", "functions.keys") if program[-1] == "localstack/keys.py" else program, arguments


def source(program: tuple[str, ...]) -> str:
    file = Path(*program[1].split(".")) if program[0] == "-m" else Path(program[0]).with_suffix("")
    return next(path for path in (ROOT / f"{file}.py", ROOT / file / "__main__.py") if path.exists()).read_text()


def prints_help(program: tuple[str, ...]) -> bool:
    # torch is installed for the second tier
    return "ArgumentParser" in source(program) and "qwen" not in program[-1]


def help_of(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the arguments of a module that prints the help of a command."""
    program, arguments = program_of(words)
    # Their options belong to a command.
    command = arguments[:1] if program[-1] in {"functions.keys", "functions.audit"} else ()
    return (*program[1:], *command, "--help")


MODULES = """
import contextlib, io, json, runpy, sys

helps = []
for sys.argv in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert not end.code, sys.argv
    helps.append([sys.argv, text.getvalue()])
print(json.dumps(helps))
"""


@cache
def module_helps() -> Mapping[tuple[str, ...], str]:
    """Return the help of all modules. One process prints it, as most of the time is spent on imports."""
    modules = {help_of(words) for words in PYTHONS if program_of(words)[0][0] == "-m" and not INSTALLED & {*words}}
    asked = json.dumps(sorted(words for words in modules if prints_help(("-m", words[0]))))
    return {tuple(words): text for words, text in json.loads(output_of("-c", MODULES, given=asked))}


@cache
def script_help(program: tuple[str, ...]) -> str:
    return output_of(*program, "--help")


def output_of(*command: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
