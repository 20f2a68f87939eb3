"""The sizes of batches: few, so that each can be captured as a graph before it is needed."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

FRAME_ROWS = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256)
FRAME_LENGTHS = (256, 512, 1024, 2048)
PREFILL_ROWS = (1, 2, 4, 8)
PREFILL_LENGTHS = (64, 128, 192, 256, 512, 1024, 2048)
PREFILL_TOKENS = 512  # per prefill, so that new rows don't stall running ones; a single prompt may be longer
CODEC_ROWS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class GraphSizes:
    """Sizes in ascending order. A run uses the smallest that is large enough."""

    frame_rows: Sequence[int]
    frame_lengths: Sequence[int]
    prefill_rows: Sequence[int]
    prefill_lengths: Sequence[int]
    codec_rows: Sequence[int]

    @classmethod
    def for_graphs(cls, slots: int, length: int) -> Self:
        """Return the sizes to capture for `slots` slots of `length` positions."""
        return cls(
            frame_rows=_up_to(FRAME_ROWS, slots),
            frame_lengths=_up_to(FRAME_LENGTHS, length),
            prefill_rows=PREFILL_ROWS,
            prefill_lengths=_up_to(PREFILL_LENGTHS, length),
            codec_rows=_up_to(CODEC_ROWS, min(slots, CODEC_ROWS[-1])),
        )

    @classmethod
    def for_eager(cls, slots: int, length: int) -> Self:
        """Return exact sizes without padding rows. Without graphs their number is not limited."""
        return cls(
            frame_rows=range(1, slots + 1),
            frame_lengths=_up_to((64, 128, *FRAME_LENGTHS), length),
            prefill_rows=range(1, PREFILL_ROWS[-1] + 1),
            prefill_lengths=range(1, length + 1),
            codec_rows=range(1, CODEC_ROWS[-1] + 1),
        )

    def prefills(self) -> list[tuple[int, int]]:
        """Return rows and lengths of all possible prefills."""
        return [
            (rows, length) for length in self.prefill_lengths for rows in self.prefill_rows if fits(rows, length)
        ]

    def prefill(self, lengths: Sequence[int]) -> tuple[int, int] | None:
        """Return rows and length of a prefill of prompts of these lengths. None if they are too many at once."""
        if len(lengths) > self.prefill_rows[-1]:
            return None
        rows, length = at_least(self.prefill_rows, len(lengths)), at_least(self.prefill_lengths, max(lengths))
        return (rows, length) if fits(rows, length) else None


def fits(rows: int, length: int) -> bool:
    """Return whether a prefill may be that large."""
    return rows == 1 or rows * length <= PREFILL_TOKENS


def at_least(sizes: Sequence[int], needed: int) -> int:
    """Return the smallest size that is large enough."""
    return sizes[bisect_left(sizes, needed)]


def _up_to(sizes: Sequence[int], most: int) -> Sequence[int]:
    return [*(size for size in sizes if size < most), most]
