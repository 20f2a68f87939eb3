"""Changes the tempo of speech without its pitch, with FFmpeg's filter `atempo`."""

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from pipeline.errors import FormatNotInstalled

if TYPE_CHECKING:
    from av.filter import Graph

_PER_FILTER = (0.5, 2.0)  # beyond this, `atempo` drops samples or refuses


class TempoChange:
    """Changes the tempo of mono 16-bit samples, as they arrive.

    Parameters
    ----------
    sample_rate
        Samples per second.
    speed
        The factor by which the audio becomes shorter, from 0.25 to 4.

    Raises
    ------
    FormatNotInstalled
        PyAV is not installed.
    """

    def __init__(self, sample_rate: int, speed: float) -> None:
        self._sample_rate = sample_rate
        self._graph = _graph(sample_rate, speed)
        self._received = 0

    def change(self, samples: bytes) -> bytes:
        """Add little-endian samples. Return the changed ones that are complete."""
        if not samples:
            return b""
        import av
        import numpy as np

        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(samples, "<i2").reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = self._sample_rate, self._received
        frame.time_base = Fraction(1, self._sample_rate)
        self._received += frame.samples
        self._graph.push(frame)
        return self._pulled()

    def finish(self) -> bytes:
        """Return the rest of the changed samples."""
        self._graph.push(None)
        return self._pulled()

    def _pulled(self) -> bytes:
        import av

        parts: list[bytes] = []
        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, av.EOFError):
                return b"".join(parts)
            assert isinstance(frame, av.AudioFrame)  # noqa: S101 - the graph has no video
            parts.append(frame.to_ndarray().astype("<i2").tobytes())


def _graph(sample_rate: int, speed: float) -> "Graph":
    try:
        from av.filter import Graph
    except ImportError as error:
        raise FormatNotInstalled("A speed other than 1", "av") from error
    graph = Graph()
    nodes = [
        graph.add_abuffer(sample_rate=sample_rate, format="s16", layout="mono", time_base=Fraction(1, sample_rate)),
        *(graph.add("atempo", f"{factor:.9f}") for factor in _factors(speed)),
        graph.add("aformat", "sample_fmts=s16:channel_layouts=mono"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _factors(speed: float) -> list[float]:
    slowest, fastest = _PER_FILTER
    return [speed] if slowest <= speed <= fastest else [math.sqrt(speed)] * 2
