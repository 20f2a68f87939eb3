"""The embedded queue serves message groups in turns, as SQS does."""

from embedded.queues.fair_queues import Turns


def messages(*groups: str | None) -> list[dict[str, object]]:
    return [{"id": number, "group_id": group} for number, group in enumerate(groups)]


def chosen(turns: Turns, waiting: list[dict[str, object]], limit: int) -> list[object]:
    """Choose and remove messages; their ids."""
    some = turns.choose(waiting, limit)
    for message in some:
        waiting.remove(message)
    return [message["id"] for message in some]


def test_small_group_is_next_after_flood() -> None:
    for size in (1, 10, 1000):
        turns = Turns()
        waiting = messages(*["alice"] * size)
        for _ in range(3):
            chosen(turns, waiting, 2)
        waiting.append({"id": "bob's", "group_id": "bob"})
        assert chosen(turns, waiting, 1) == ["bob's"]


def test_groups_are_served_round_robin() -> None:
    turns = Turns()
    waiting = messages("alice", "alice", "alice", "bob", "bob", None, None)
    assert [chosen(turns, waiting, 1) for _ in range(7)] == [[0], [3], [5], [1], [4], [6], [2]]


def test_group_that_sends_again_waits() -> None:
    turns = Turns()
    waiting = messages("alice", "alice", "bob")
    assert chosen(turns, waiting, 2) == [0, 2]
    waiting.append({"id": "bob's second", "group_id": "bob"})
    assert chosen(turns, waiting, 1) == [1]


def test_single_group_is_served_in_order() -> None:
    turns = Turns()
    assert chosen(turns, messages(None, None, None), 10) == [0, 1, 2]
    assert chosen(turns, [], 10) == []
