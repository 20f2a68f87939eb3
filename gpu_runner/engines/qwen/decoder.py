"""Decodes the codes of many rows to samples, a few frames of each at a time, while further codes are generated."""

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch

from gpu_runner.engines.qwen.checkpoint.out_of_memory import OutOfMemory, release_memory, translate_device_errors
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.codec import Codec
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes, at_least
from gpu_runner.engines.qwen.network.graphs import Fetched, Runner
from gpu_runner.engines.qwen.network.precision import choose_precision, float32_as
from gpu_runner.engines.qwen.network.prefill import to_device
from pipeline.audio.reference_audio import Samples

CHUNK = 4  # frames decoded at a time: the first audio is available after as many


class Decoder:
    """Holds the codec's state of each row from `begin` to `end`."""

    def __init__(self, codec: Codec, states: int, runner: Runner, sizes: GraphSizes) -> None:
        self._codec = codec
        self._precision = choose_precision(codec)
        self._runner = runner
        self._sizes = sizes
        most = sizes.codec_rows[-1]
        self._states = codec.start(states + 1)  # the last one is for rows that pad a batch
        self._positions = torch.zeros(states + 1, dtype=torch.long, device=codec.device)
        self._index = torch.zeros(most, dtype=torch.long, device=codec.device)
        self._codes = torch.zeros(most, CHUNK, codec.groups, dtype=torch.long, device=codec.device)
        self._samples = torch.zeros(most, CHUNK * codec.frame_samples, dtype=codec.dtype, device=codec.device)
        self._rows: dict[int, Row] = {}
        # Chunks that are being copied to the host: their rows, with the number of frames of each, and the samples.
        self._unread: deque[tuple[list[tuple[Row, int]], Fetched]] = deque()

    @property
    def free(self) -> int:
        """The number of further rows that may begin."""
        return len(self._states) - 1 - len(self._rows)

    @property
    def rows(self) -> list[Row]:
        """The rows that have begun."""
        return list(self._rows.values())

    def begin(self, row: Row) -> None:
        """Assign a state to a row. It starts as the state after the reference of its voice."""
        prompt = row.prompt
        state = next(state for state in range(len(self._states) - 1) if state not in self._rows)
        with self._runner.use():
            if prompt.codes is None or prompt.state is None:
                self._states[state], self._positions[state] = 0, 0
            else:
                self._states[state].copy_(prompt.state, non_blocking=True)
                self._positions[state] = len(prompt.codes)
        row.state = state
        self._rows[state] = row

    def end(self, row: Row) -> None:
        """Free a row's state, if it has one. Pending samples are dropped."""
        if row.state is not None:
            del self._rows[row.state]
            row.state = None

    def submit(self) -> list[Row]:
        """Start to decode the due frames. Return the rows for which there is too little memory even alone."""
        failed: list[Row] = []
        most = self._sizes.codec_rows[-1]
        while due := [row for row in self._rows.values() if _is_due(row) and row not in failed]:
            for start in range(0, len(due), most):
                failed += self._submit(due[start : start + most])
        return failed

    def collect(self, *, wait: bool) -> list[tuple[Row, Samples]]:
        """Return the samples that have arrived, or, with `wait`, at least some of those pending."""
        arrived: list[tuple[Row, Samples]] = []
        while self._unread and (self._unread[0][1].is_ready or (wait and not arrived)):
            arrived += self._read(*self._unread.popleft())
        return arrived

    def capture(self) -> None:
        """Run once in all batch sizes, so that graphs are captured."""
        if not self._runner.captures:
            return
        with self._runner.use():
            self._index.fill_(len(self._states) - 1)
        for rows in self._sizes.codec_rows:
            self._decode(rows)

    def _submit(self, rows: Sequence[Row]) -> list[Row]:
        try:
            with translate_device_errors():
                self._start(rows)
        except OutOfMemory:
            release_memory(self._codec.device)
            half = len(rows) // 2
            return list(rows) if half == 0 else self._submit(rows[:half]) + self._submit(rows[half:])
        return []

    def _start(self, rows: Sequence[Row]) -> None:
        batch = at_least(self._sizes.codec_rows, len(rows))
        index = torch.full((batch,), len(self._states) - 1)
        codes = torch.zeros(batch, CHUNK, self._codec.groups, dtype=torch.long)
        counts = []
        for number, row in enumerate(rows):
            frames = row.codes[row.decoded : row.decoded + CHUNK]
            counts.append(len(frames))
            codes[number, : len(frames)] = torch.tensor(frames)
            index[number] = -1 if row.state is None else row.state
        with self._runner.use():
            self._index[:batch] = to_device(index, self._index.device)
            self._codes[:batch] = to_device(codes, self._codes.device)
        self._decode(batch)
        chunks = list(zip(rows, counts, strict=True))
        self._unread.append((chunks, self._runner.fetch(self._samples[: len(rows)])))
        for row, count in chunks:
            row.decoded += count
            row.decoding += 1

    def _decode(self, batch: int) -> None:
        self._runner.run(batch, partial(self._decode_in_place, batch))

    def _decode_in_place(self, batch: int) -> None:
        index = self._index[:batch]
        positions, states = self._positions.index_select(0, index), self._states.index_select(0, index)
        with float32_as("tf32") if self._precision == "tf32" else nullcontext():
            samples, states = self._codec.decode(self._codes[:batch], states, positions)
        self._samples[:batch] = samples
        # Updated last: if memory runs out before, the state is unchanged.
        self._states.index_copy_(0, index, states)
        self._positions.index_copy_(0, index, positions + CHUNK)

    def _read(self, chunks: list[tuple[Row, int]], fetched: Fetched) -> list[tuple[Row, Samples]]:
        arrived = []
        for (row, frames), wave in zip(chunks, fetched.wait().float().numpy(), strict=True):
            row.decoding -= 1
            if row.state is not None:
                arrived.append((row, np.array(wave[: frames * self._codec.frame_samples])))
        return arrived


def _is_due(row: Row) -> bool:
    waiting = len(row.codes) - row.decoded
    return waiting >= CHUNK or (row.ended and waiting > 0)
