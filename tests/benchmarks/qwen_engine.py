"""Measures the Qwen3-TTS engine with random weights, on which the speed does not depend.

    python -m tests.benchmarks.qwen_engine [--sizes published|tiny] [--device cuda:0|cpu] [--results FILE]
        [--levels 1,2,4] [--again STAGE] [--checkpoint FOLDER]

The stages measure correctness first, then speed, and end after nine minutes at the latest. The results file has
the results of each completed stage, which the next start does not repeat. A table of all results is printed at the
end. The default sizes are those of the published 0.6B model on a GPU, and tiny ones on a CPU. Speech never ends by
itself here.
"""

import argparse
import json
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.checkpoint.model import Model
from gpu_runner.engines.qwen.engine import QwenEngine
from pipeline.settings import Settings
from tests.benchmarks import qwen_faster, qwen_load, qwen_stages
from tests.qwen import tiny_checkpoint
from tests.qwen.stages import never_ending

SIZES = {"published": tiny_checkpoint.PUBLISHED, "tiny": tiny_checkpoint.TINY}
LEVELS = {"published": (1, 2, 4, 8, 16, 32, 64, 96, 128), "tiny": (1, 2, 4, 8)}

STAGE_SECONDS = 540.0

Found = dict[str, Any]


@dataclass
class Bench:
    """What is measured, and on what."""

    sizes: str
    device: str
    levels: tuple[int, ...]
    checkpoint: Path
    load: qwen_load.Size
    found: Found = field(default_factory=dict)

    @cached_property
    def model(self) -> Model:
        """The model, loaded once for all stages."""
        if not (self.checkpoint / "config.json").exists():
            dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
            tiny_checkpoint.build(self.checkpoint, SIZES[self.sizes], dtype=dtype)
        settings = Settings(qwen_tts_model_id=str(self.checkpoint), device=self.device)
        model = open_model(settings)
        model.__dict__["network"] = never_ending(model.network)
        return model

    @cached_property
    def engine(self) -> QwenEngine:
        """An engine for as many as are ever in flight."""
        engine = QwenEngine(lambda: self.model, capacity=max(self.levels), model=self.sizes)
        engine.warm_up()
        return engine


def stages(bench: Bench) -> dict[str, Callable[[], Found]]:
    """Name the stages, in their order."""
    named: dict[str, Callable[[], Found]] = {
        "logits": lambda: qwen_stages.logits(SIZES[bench.sizes], bench.device),
        "codec": lambda: qwen_stages.codec(bench.model),
        "prompts": lambda: qwen_stages.prompts(bench.engine, bench.load),
        "operations": lambda: qwen_stages.operations(bench.model),
    }
    for level in bench.levels:
        named[f"parts_{level}"] = lambda level=level: qwen_stages.parts(bench.model, level)  # type: ignore[misc]
        named[f"closed_{level}"] = lambda level=level: qwen_stages.closed(bench.engine, bench.load, level)  # type: ignore[misc]
    named["poisson"] = lambda: qwen_stages.arrivals(bench.engine, bench.load, bench.found)
    named["seeds"] = lambda: qwen_stages.seeds(bench.engine, bench.load, max(bench.levels))
    named["memory"] = lambda: qwen_stages.memory(bench.engine, bench.load, bench.device)
    named["qwen_tts"] = lambda: qwen_stages.qwen_tts(bench.checkpoint, bench.engine, bench.device, bench.load)
    named["faster_qwen3_tts"] = lambda: qwen_faster.faster(bench.checkpoint, bench.engine, bench.device, bench.load)
    return named


def run(bench: Bench, results: Path | None, again: str | None = None) -> Found:
    """Run the stages that are not in the results yet, or were skipped or failed, and write each down as it ends."""
    if results and results.exists():
        bench.found |= json.loads(results.read_text())["stages"]
    for name, stage in stages(bench).items():
        if name == again or not bench.found.get(name, {}).keys() - {"skipped", "failed"}:
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                with time_limit(STAGE_SECONDS):
                    bench.found[name] = stage()
            except TimeoutError:
                bench.found[name] = {"skipped": f"it took longer than {STAGE_SECONDS:g} s"}
            except Exception as error:  # the other stages are worth the time on a rented GPU
                bench.found[name] = {"failed": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
            if results:
                _write(bench, results)
    return bench.found


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the main thread after this time."""

    def expire(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _write(bench: Bench, results: Path) -> None:
    """Write the results, with what the simulation of scaling reads."""
    written = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(bench.device),
        "device": bench.device,
        "sizes": bench.sizes,
        "command": " ".join(["python -m tests.benchmarks.qwen_engine", *sys.argv[1:]]),
        "ms_per_frame": {
            level: bench.found[f"closed_{level}"]["ms_per_step"]
            for level in bench.levels
            if f"closed_{level}" in bench.found
        },
        "stages": bench.found,
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(written, indent=2) + "\n")


def machine(device: str) -> str:
    """Return the description of the machine."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    return f"{name} CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def table(bench: Bench) -> str:
    """Lay the results out as Markdown."""
    lines = [
        f"{bench.sizes} sizes, random weights, on {machine(bench.device)}",
        "",
        "| stage | found |",
        "|---|---|",
    ]
    for name, found in bench.found.items():
        facts = ", ".join(f"{fact.replace('_', ' ')} {_shown(value)}" for fact, value in found.items())
        lines.append(f"| {name} | {facts} |")
    return "\n".join(lines)


def _shown(value: float | str) -> str:
    return f"({value})" if isinstance(value, str) else f"{value:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=SIZES)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--levels", help="how many are in flight, separated by commas")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--again", help="a stage to measure again")
    parser.add_argument("--checkpoint", type=Path, help="where the weights are, or will be")
    given = parser.parse_args()
    sizes = given.sizes or ("published" if given.device.startswith("cuda") else "tiny")
    levels = tuple(map(int, given.levels.split(","))) if given.levels else LEVELS[sizes]
    load = qwen_load.FULL if sizes == "published" else qwen_load.SMALL
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(sizes, given.device, levels, given.checkpoint or Path(folder), load)
        run(bench, given.results, given.again)
        print(table(bench))


if __name__ == "__main__":
    main()
