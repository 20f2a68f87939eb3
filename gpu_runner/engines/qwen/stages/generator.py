"""Generates the codes of many rows at once, a frame at a time.

The host stays `lag` frames behind the device: while a frame is computed, the report of an earlier one is read.  A
row whose end is not known yet generates frames that are dropped.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from gpu_runner.engines.qwen import prefix
from gpu_runner.engines.qwen.model import Model
from gpu_runner.engines.qwen.network.buckets import Buckets, at_least
from gpu_runner.engines.qwen.network.frame import Bucket, Status, make_frame
from gpu_runner.engines.qwen.network.graphs import Fetched, Runner
from gpu_runner.engines.qwen.network.network import Network
from gpu_runner.engines.qwen.network.prefill import Inputs, Newcomer, fill, prefill, seat
from gpu_runner.engines.qwen.network.slots import Slots
from gpu_runner.engines.qwen.prefix import Prefix
from gpu_runner.engines.qwen.rows import Row


class End(Enum):
    """Why a row has no further frames."""

    SPOKEN = "spoken"
    CAPPED = "capped"
    BROKEN = "broken"


_ENDS = {Status.ENDED: End.SPOKEN, Status.CAPPED: End.CAPPED, Status.BROKEN: End.BROKEN}


@dataclass(frozen=True, slots=True)
class Progress:
    """A row has one more frame, or none, and has then ended, or not."""

    row: Row
    end: End | None


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame that the host has not read: the row of each slot, and the reports of the slots."""

    rows: dict[int, Row]
    reports: Fetched


class Generator:
    """Keeps rows in slots from their admission to their release."""

    def __init__(self, network: Network, slots: Slots, runner: Runner, buckets: Buckets, *, lag: int) -> None:
        self._network = network
        self._slots = slots
        self._runner = runner
        self._buckets = buckets
        self._lag = lag
        self._inputs = Inputs(network, buckets)
        self._rows: dict[int, Row] = {}
        self._free = list(range(slots.count))
        self._unread: deque[_Frame] = deque()

    @property
    def rows(self) -> list[Row]:
        """The rows in slots."""
        return list(self._rows.values())

    @property
    def free(self) -> int:
        """The number of free slots."""
        return len(self._free)

    def may_join(self, lengths: Sequence[int]) -> bool:
        """Return whether prompts of these lengths may be admitted together."""
        return len(lengths) <= self.free and self._buckets.prefill([length - 1 for length in lengths]) is not None

    def read(self, model: Model, row: Row) -> Prefix:
        """Build the input of a row, on the device."""
        with self._runner.use():
            return prefix.build(model, row)

    def admit(self, newcomers: Sequence[tuple[Row, Prefix]]) -> None:
        """Run the prefill of rows and assign slots to them, which must be possible: see `may_join`."""
        shape = self._buckets.prefill([len(reads.embeds) - 1 for _, reads in newcomers])
        if shape is None:
            raise ValueError("too many prompts at once")
        slots = heapq.nsmallest(len(newcomers), self._free)
        seats = [self._newcomer(row, reads, slot) for (row, reads), slot in zip(newcomers, slots, strict=True)]
        with self._runner.use():
            fill(self._inputs, self._slots, seats, *shape)
            self._runner.run(shape, partial(prefill, self._network, self._slots, self._inputs, *shape))
            seat(self._slots, seats, shape[1])
        for (row, reads), slot in zip(newcomers, slots, strict=True):
            self._free.remove(slot)
            self._rows[slot] = row
            row.slot, row.launched, row.prefix = slot, len(row.codes), len(reads.embeds) - len(row.codes)

    def release(self, row: Row) -> None:
        """Free a row's slot, if it has one."""
        if row.slot is not None:
            del self._rows[row.slot]
            heapq.heappush(self._free, row.slot)
            row.slot = None

    def clear(self) -> list[Row]:
        """Free all slots, discard pending reports, and return the rows."""
        rows = self.rows
        for row in rows:
            self.release(row)
        self._unread.clear()
        return rows

    def advance(self) -> list[Progress]:
        """Start a frame for all rows, and read the report of an earlier one, if there is one that is due."""
        started = self._start_frame()
        if self._unread and (len(self._unread) > self._lag or not started):
            return self._read(self._unread.popleft())
        return []

    def capture(self) -> None:
        """Run everything once in all its shapes, so that graphs are captured; no row may be in a slot."""
        if not self._runner.captures:
            return
        with self._runner.use():
            for shape in self._buckets.prefills():
                self._runner.run(shape, partial(prefill, self._network, self._slots, self._inputs, *shape))
            for rows in self._buckets.frame_rows:
                for length in self._buckets.frame_lengths:
                    self._make_frame(Bucket(rows, length, few=True))

    def _newcomer(self, row: Row, reads: Prefix, slot: int) -> Newcomer:
        return Newcomer(
            slot=slot,
            reads=reads.embeds,
            text=reads.feed,
            settings=row.sampling.numbers(),
            numbers=row.numbers(self._network.groups),
            cap=row.cap,
            first_codes=[frame[0] for frame in row.codes],
        )

    def _start_frame(self) -> bool:
        """Start a frame on the device; return False when no row can have another one."""
        going = {slot: row for slot, row in self._rows.items() if row.launched < row.cap}
        if not going:
            return False
        length = max(row.prefix + row.launched for row in going.values())
        bucket = Bucket(
            batch=at_least(self._buckets.frame_rows, max(going) + 1),
            length=at_least(self._buckets.frame_lengths, length),
            few=all(row.sampling.few_are_enough for row in going.values()),
        )
        with self._runner.use():
            self._make_frame(bucket)
            reports = self._runner.fetch(self._slots.report[: bucket.batch])
        for row in going.values():
            row.launched += 1
        self._unread.append(_Frame(going, reports))
        return True

    def _make_frame(self, bucket: Bucket) -> None:
        self._runner.run(bucket, partial(make_frame, self._network, self._slots, bucket))

    def _read(self, frame: _Frame) -> list[Progress]:
        reports = frame.reports.wait().tolist()
        progress = []
        for slot, row in frame.rows.items():
            status, *codes = reports[slot]
            if row.slot != slot or row.ended or status == Status.IDLE:
                continue  # it has left the slot since, or had ended before
            if status in (Status.SPOKEN, Status.CAPPED):
                row.codes.append(codes)
            end = _ENDS.get(status)
            row.ended, row.was_capped = end is not None, end is End.CAPPED
            progress.append(Progress(row, end))
        return progress
