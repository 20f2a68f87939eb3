"""Cost of the checks of references: `python -m tests.benchmarks.reference_checks`.

The CPU time of the checks is measured in this process. Then two services run at the same time, with `QUALITY=off`
and `QUALITY=warn`. They get the same previews of new recordings in turns, so that the load of the machine is equal.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import soundfile as sf

from gpu_runner.analysis.checks import check_reference
from pipeline.audio.reference_audio import Recording
from tests.e2e.stack import Stack, running

SETTINGS = {"LOG_LEVEL": "WARNING", "UVICORN_WORKERS": "1", "AUTH": "none", "TTS_BACKEND": "hibari"}
TEXT = "The weather is fine today, and the children went home."


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reference_checks", description=__doc__)
    parser.add_argument("recording", type=Path, help="WAV of speech")
    parser.add_argument("--transcription", default="", help="of the recording")
    parser.add_argument("--count", type=int, default=40, help="previews of each service")
    parser.add_argument("--pause", type=float, default=0, help="seconds after each preview")
    arguments = parser.parse_args()
    print(cpu_times(arguments.recording, arguments.transcription))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            running(folder / "off", SETTINGS | {"QUALITY": "off"}) as off,
            running(folder / "warn", SETTINGS | {"QUALITY": "warn"}) as warn,
        ):
            print(preview_times((off, warn), arguments.recording.read_bytes(), arguments.count, arguments.pause))


def cpu_times(path: Path, transcription: str) -> str:
    """Return the seconds of CPU time per 10 s of audio, without and with a transcription."""
    samples, rate = sf.read(path, dtype="float32", always_2d=True)
    recording = Recording(samples.mean(axis=1).astype(np.float32), rate)
    lines = []
    for name, text in (("without transcription", ""), ("with transcription", transcription)):
        check_reference(recording, text)  # loads the models
        started = time.process_time()
        check_reference(recording, text)
        seconds = (time.process_time() - started) * 10 / recording.duration_seconds
        lines.append(f"{name}: {seconds:.2f} s of CPU time per 10 s of audio")
    return "\n".join(lines)


def preview_times(stacks: Sequence[Stack], wav: bytes, count: int, pause: float) -> str:
    """Return the percentiles of both services, in milliseconds."""
    times: list[list[float]] = [[] for _ in stacks]
    with httpx.Client(timeout=60) as client:
        for number in range(count + 3):  # the first ones load models
            for stack, measured in zip(stacks, times, strict=True):
                started = time.perf_counter()
                answer = client.post(
                    f"{stack.url}/preview", files={"audio": wav}, data={"response_text": f"{TEXT} {number}"}
                )
                measured.append(1000 * (time.perf_counter() - started))
                assert answer.status_code == 200, answer.text
                time.sleep(pause)
    lines = []
    for name, measured in zip(("QUALITY=off", "QUALITY=warn"), times, strict=True):
        p = statistics.quantiles(measured[3:], n=20)
        lines.append(f"{name}: p50 {statistics.median(measured[3:]):.0f} ms, p95 {p[18]:.0f} ms")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
