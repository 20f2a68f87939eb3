"""Control of the calls of fakes."""

import asyncio
from dataclasses import dataclass, field
from random import Random

from pipeline.errors import Unavailable


@dataclass(slots=True)
class Switch:
    """Turns the calls of a fake on and off, and records them by method name."""

    is_up: bool = True
    calls: list[str] = field(default_factory=list)

    async def passed(self, call: str) -> None:
        """Record a call, and raise `Unavailable` while the switch is off."""
        await asyncio.sleep(0)
        self.calls.append(call)
        if not self.is_up:
            raise Unavailable(f"switched off ({call})")

    def count(self, call: str) -> int:
        """Return the number of calls of a method."""
        return self.calls.count(call)


class RandomOrder(Switch):
    """Delays calls at random, which changes their order."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    async def passed(self, call: str) -> None:
        for _ in range(self._random.randrange(6)):
            await asyncio.sleep(0)
        await super().passed(call)
