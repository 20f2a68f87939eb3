"""Makes the queues of ministack fair between message groups, as standard queues of SQS are.

Groups with visible messages are served round-robin, and one that has not been served before is next.  So a group
with one message waits only for what is already in flight, however many messages the others have sent.  Messages
without a group form one group.
"""

import itertools
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

Message = dict[str, Any]
Queue = dict[str, Any]
Collect = Callable[[Queue, int, int], list[Message]]


def make_fair(sqs: ModuleType) -> None:
    """Replace the selection of messages in ministack's `sqs` module; FIFO queues are unchanged."""
    sqs._collect_msgs = _fair(sqs._collect_msgs)  # type: ignore[attr-defined]


def _fair(collect: Collect) -> Collect:
    turns: dict[str, Turns] = defaultdict(Turns)

    def collect_fairly(queue: Queue, limit: int, visibility_seconds: int) -> list[Message]:
        if queue["is_fifo"]:
            return collect(queue, limit, visibility_seconds)
        now = time.time()
        visible = (message for message in queue["messages"] if message["visible_at"] <= now)
        chosen = turns[queue["url"]].choose(visible, limit)
        return collect({**queue, "messages": chosen}, limit, visibility_seconds)

    return collect_fairly


class Turns:
    """The round-robin order of the message groups of a queue."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._last_turn: dict[str | None, int] = {}

    def choose(self, messages: Iterable[Message], limit: int) -> list[Message]:
        """Return up to `limit` messages, one of each group in turn; the group served longest ago comes first."""
        waiting: dict[str | None, deque[Message]] = defaultdict(deque)
        for message in messages:
            waiting[message.get("group_id")].append(message)
        chosen: list[Message] = []
        while waiting and len(chosen) < limit:
            group = min(waiting, key=lambda name: self._last_turn.get(name, 0))
            self._last_turn[group] = next(self._numbers)
            chosen.append(waiting[group].popleft())
            if not waiting[group]:
                del waiting[group]
        return chosen
