"""The lengths of frames, and how many a connection may send."""

import pytest
from websockets.frames import Frame, Opcode

from functions.local.frame_limit import FrameLimit, frame_length


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("mask", [True, False])
def test_frame_length_from_header(size: int, mask: bool) -> None:
    frame = Frame(Opcode.TEXT, b"x" * size).serialize(mask=mask)
    assert frame_length(frame) == frame_length(frame + b"more") == len(frame)
    header = len(frame) - size - (4 if mask else 0)
    assert frame_length(frame[:header]) == len(frame)
    assert frame_length(frame[: header - 1]) is None


def sent(limit: FrameLimit, seconds: float, *, per_second: float, start: float = 0) -> tuple[int, bool]:
    """Offer frames at a steady rate; return how many passed, and whether the limit was exceeded."""
    passed = 0
    for number in range(int(seconds * per_second)):
        now = start + number / per_second
        passed += limit.seconds_to_wait(now) == 0
        if limit.is_exceeded(now):
            return passed, True
    return passed, False


def test_frame_burst_is_fifth_of_limit() -> None:
    limit = FrameLimit(600)
    assert [limit.seconds_to_wait(0) for _ in range(120)] == [0] * 120
    assert limit.seconds_to_wait(0) == pytest.approx(0.1)
    assert limit.seconds_to_wait(0.11) == 0


def test_frames_within_limit() -> None:
    assert sent(FrameLimit(600), 300, per_second=10) == (3000, False)


def test_frames_over_limit() -> None:
    passed, is_exceeded = sent(FrameLimit(600, slowed_seconds=20), 300, per_second=100)
    assert is_exceeded
    assert 300 < passed < 350


def test_frame_limit_resets_after_pause() -> None:
    limit = FrameLimit(600, slowed_seconds=20)
    for burst in range(10):
        passed, is_exceeded = sent(limit, 15, per_second=20, start=100 * burst)
        assert (passed > 250, is_exceeded) == (True, False)


def test_frame_limit_short_pauses() -> None:
    limit = FrameLimit(600, slowed_seconds=20)
    exceeded = [sent(limit, 4, per_second=100, start=5 * burst)[1] for burst in range(10)]
    assert any(exceeded)


def test_frame_limit_off() -> None:
    assert sent(FrameLimit(0), 1, per_second=10_000) == (10_000, False)
