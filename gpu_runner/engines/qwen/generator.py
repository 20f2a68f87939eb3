"""Generates the codes of many rows at once, one frame per step.

The host stays `lag` frames behind the device: while a frame is computed, the report of an earlier one is read. The
frames of a row that has stopped in the meantime are dropped.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from gpu_runner.engines.qwen.checkpoint.model import ROLE_TOKENS, Model
from gpu_runner.engines.qwen.job import Row
from gpu_runner.engines.qwen.network.frame import FrameSize, Status, make_frame
from gpu_runner.engines.qwen.network.graph_sizes import GraphSizes, at_least
from gpu_runner.engines.qwen.network.graphs import Fetched, Runner
from gpu_runner.engines.qwen.network.prefill import PrefillBuffers, PrefillRow, fill_buffers, fill_slots, prefill
from gpu_runner.engines.qwen.network.slots import Slots


class Generator:
    """Holds rows in slots from their admission to their release."""

    def __init__(self, model: Model, slots: Slots, runner: Runner, sizes: GraphSizes, *, lag: int) -> None:
        self._model = model
        self._network = model.network
        self._slots = slots
        self._runner = runner
        self._sizes = sizes
        self._lag = lag
        self._buffers = PrefillBuffers(model.network, sizes)
        self._rows: dict[int, Row] = {}
        # Of frames that the host has not read: the row of each slot, and the reports of the slots.
        self._unread: deque[tuple[dict[int, Row], Fetched]] = deque()

    @property
    def rows(self) -> list[Row]:
        """The rows in slots."""
        return list(self._rows.values())

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self._slots.count - len(self._rows)

    def can_admit(self, rows: Sequence[Row]) -> bool:
        """Return whether rows may be admitted together."""
        lengths = [prefix_length(self._model, row) - 1 for row in rows]
        return len(rows) <= self.free and self._sizes.prefill(lengths) is not None

    def admit(self, admitted: Sequence[Row]) -> None:
        """Run the prefill of rows and assign slots to them. `can_admit` must have returned True for them."""
        free = (slot for slot in range(self._slots.count) if slot not in self._rows)
        with self._runner.use():
            new = [self._new_row(row, slot) for row, slot in zip(admitted, free, strict=False)]
            size = self._sizes.prefill([len(one.embeds) - 1 for one in new])
            if size is None:
                raise ValueError("too many prompts at once")
            fill_buffers(self._buffers, self._slots, new, *size)
            self._prefill(size)
            fill_slots(self._slots, new, size[1])
        for row, one in zip(admitted, new, strict=True):
            self._rows[one.slot] = row
            row.slot, row.launched, row.prefix = one.slot, len(row.codes), len(one.embeds) - len(row.codes)

    def _new_row(self, row: Row, slot: int) -> PrefillRow:
        embeds, feed = build_prefix(self._model, row)
        return PrefillRow(
            slot=slot,
            embeds=embeds,
            feed=feed,
            settings=row.sampling.numbers(),
            numbers=row.random_numbers(self._network.groups),
            cap=row.cap,
            first_codes=[frame[0] for frame in row.codes],
        )

    def release(self, row: Row) -> None:
        """Free a row's slot, if it has one."""
        if row.slot is not None:
            del self._rows[row.slot]
            row.slot = None

    def clear(self) -> list[Row]:
        """Free all slots, discard pending reports, and return the rows."""
        rows = self.rows
        for row in rows:
            self.release(row)
        self._unread.clear()
        return rows

    def step(self) -> list[tuple[Row, int]]:
        """Start a frame for all rows, and read the report of an earlier one, if one is due.

        Returns the rows of that report with their `Status`.
        """
        started = self._start_frame()
        if self._unread and (len(self._unread) > self._lag or not started):
            return self._read(*self._unread.popleft())
        return []

    def capture(self) -> None:
        """Run every function once in all its sizes, so that graphs are captured. No row may be in a slot."""
        if not self._runner.captures:
            return
        with self._runner.use():
            for size in self._sizes.prefills():
                self._prefill(size)
            for rows in self._sizes.frame_rows:
                for length in self._sizes.frame_lengths:
                    for few in (True, False):
                        self._make_frame(FrameSize(rows, length, few=few))

    def _prefill(self, size: tuple[int, int]) -> None:
        self._runner.run(size, partial(prefill, self._network, self._slots, self._buffers, *size))

    def _make_frame(self, size: FrameSize) -> None:
        self._runner.run(size, partial(make_frame, self._network, self._slots, size))

    def _start_frame(self) -> bool:
        """Start a frame on the device. Return False if no row can have another one."""
        running = {slot: row for slot, row in self._rows.items() if row.launched < row.cap}
        if not running:
            return False
        length = max(row.prefix + row.launched for row in running.values())
        size = FrameSize(
            batch=at_least(self._sizes.frame_rows, max(running) + 1),
            length=at_least(self._sizes.frame_lengths, length),
            few=all(row.sampling.few_are_enough for row in running.values()),
        )
        with self._runner.use():
            self._make_frame(size)
            reports = self._runner.fetch(self._slots.report[: size.batch])
        for row in running.values():
            row.launched += 1
        self._unread.append((running, reports))
        return True

    def _read(self, rows: dict[int, Row], fetched: Fetched) -> list[tuple[Row, int]]:
        reports = fetched.wait().tolist()
        progress = []
        for slot, row in rows.items():
            status, *codes = reports[slot]
            if row.slot != slot or row.ended or status == Status.IDLE:
                continue  # it has left the slot since, or had ended before
            if status in (Status.RUNNING, Status.LENGTH_CAPPED):
                row.codes.append(codes)
            row.ended, row.was_capped = status != Status.RUNNING, status == Status.LENGTH_CAPPED
            progress.append((row, status))
        return progress


def prefix_length(model: Model, row: Row) -> int:
    """Return the number of tokens in a row's prefix."""
    reference = 0 if row.prompt.codes is None else len(row.prompt.codes)
    text = len(row.tokens) + 1 if row.reads_ahead else 0
    # The role. The tags with the speaker and the padding. The start of speech. The frames so far.
    return ROLE_TOKENS + len(_language_tags(model, row.language)) + 2 + text + 1 + reference + len(row.codes)


def build_prefix(model: Model, row: Row) -> tuple[Tensor, Tensor]:
    """Build the talker's input before a row's next frame: a text in the voice of a prompt, and its frames so far.

    Returns the [T, D] tokens that the prefill reads, and the [N, D] tokens to add to the frames that are fed back,
    one to each. The last one means "no more text" and is added to every later frame.

    The layout is the one that the published models were trained on, and that `qwen_tts` uses for voice cloning: the
    role, tags for language and speaker, then text and codes in parallel, one token of text per frame. In a row that
    reads ahead (`non_streaming_mode`), the codes follow the text.
    """
    config = model.config
    marks = model.pretrained.config
    start, end, pad = model.embed_text(
        [marks.tts_bos_token_id, marks.tts_eos_token_id, marks.tts_pad_token_id]
    ).chunk(3, dim=1)  # each [1, 1, D]
    tags = torch.cat(
        [
            model.embed_tags(_language_tags(model, row.language)),
            model.to_device(row.prompt.speaker.to(start.dtype)).view(1, 1, -1),
            model.embed_tags([config.codec_pad_id, config.codec_bos_id]),
        ],
        dim=1,
    )  # [1, C, D]
    tag_text = torch.cat([pad.expand(-1, tags.shape[1] - 2, -1), start], dim=1)  # [1, C - 1, D]
    head = torch.cat([model.embed_text(model.role), tag_text + tags[:, :-1]], dim=1)
    words = torch.cat([model.embed_text(row.tokens), end], dim=1)  # [1, W + 1, D]
    speech = tags[:, -1:]  # [1, 1, D]: the start of speech
    if row.prompt.codes is not None:
        speech = torch.cat([speech, _embed_frames(model, row.prompt.codes)], dim=1)
    if row.reads_ahead:
        head = torch.cat([head, words + model.embed_tags([config.codec_pad_id])], dim=1)
        words = pad
    length = speech.shape[1]
    words = torch.cat([words, pad.expand(-1, max(0, length - words.shape[1]), -1)], dim=1)
    feed = torch.cat([words[:, length:], pad], dim=1)
    embeds = torch.cat([head, words[:, :length] + speech], dim=1)
    if row.codes:  # as if these frames had been fed back
        missing = max(0, len(row.codes) - feed.shape[1])
        text = torch.cat([feed, pad.expand(-1, missing, -1)], dim=1)[:, : len(row.codes)]
        embeds = torch.cat([embeds, _embed_frames(model, torch.tensor(row.codes)) + text], dim=1)
    return embeds[0], feed[0]


def _embed_frames(model: Model, codes: Tensor) -> Tensor:
    return model.network.embed_frames(model.to_device(codes))[None]  # [1, F, D]


def _language_tags(model: Model, language: str) -> list[int]:
    config = model.config
    known = model.languages.get(language.lower())
    if known is None:  # Auto
        return [config.codec_nothink_id, config.codec_think_bos_id, config.codec_think_eos_id]
    return [config.codec_think_id, config.codec_think_bos_id, known, config.codec_think_eos_id]
