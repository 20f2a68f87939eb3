"""Planted bugs, each a change of one place in the code, which the simulation has to find."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """A bug, and the code that has it."""

    name: str
    file: str
    before: str
    after: str
