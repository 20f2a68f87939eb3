"""Checks the engine on a new GPU host in a few minutes, and recommends settings.

    python -m gpu_runner gpu-check [--report FILE]

It uses the worker's settings from the environment. A stage that fails reports the reason, and the others run. On a
CPU, functions run directly where a GPU captures graphs.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpu_runner.engines import Finished, Reference, Utterance
from gpu_runner.engines.qwen.allocation import Stages, allocate_stages, build_stages
from gpu_runner.engines.qwen.checkpoint import devices
from gpu_runner.engines.qwen.checkpoint.devices import Placement
from gpu_runner.engines.qwen.checkpoint.loading import open_model
from gpu_runner.engines.qwen.checkpoint.model import SAMPLE_RATE, Model
from gpu_runner.engines.qwen.checkpoint.weights import free_memory
from gpu_runner.engines.qwen.engine import QwenEngine
from gpu_runner.engines.qwen.network.frame import FrameSize, make_frame
from gpu_runner.engines.qwen.network.graphs import Fetched, Runner
from gpu_runner.engines.qwen.network.precision import choose_precision, signal_to_noise
from gpu_runner.engines.qwen.network.slots import allocate
from pipeline.audio.reference_audio import Recording, Samples
from pipeline.contract.records import Options
from pipeline.settings import Settings

Facts = dict[str, Any]

TEXT = "This sentence is spoken to check a new machine, and it takes a few seconds."
LEVELS = (1, 8, 32, 64, 128)  # texts in flight
BACKENDS = ("math", "efficient", "cudnn")  # the first is the most exact
MOST_DIFFERENT = 0.05  # of an attention backend from the first, in standard deviations


class _MeasuringRunner(Runner):
    """Measures the first run of each key, which captures a graph on a GPU."""

    captures = True

    def __init__(self, runner: Runner, device: torch.device) -> None:
        self._runner = runner
        self._device = device
        self.measured: dict[str, Facts] = {}

    def run(self, key: Hashable, function: Callable[[], None]) -> None:
        if str(key) in self.measured:
            self._runner.run(key, function)
            return
        before, began = free_memory(self._device), _now(self._device)
        self._runner.run(key, function)
        taken = (before or 0) - (free_memory(self._device) or 0)
        self.measured[str(key)] = {"ms": _ms(began, self._device), "mib": round(taken / 2**20, 1)}

    def fetch(self, tensor: Tensor) -> Fetched:
        return self._runner.fetch(tensor)

    def use(self) -> AbstractContextManager[object]:
        return self._runner.use()


class GpuCheck:
    """The stages share a model and an engine, which are made by the first stage that needs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ids = count()
        self._runners: list[_MeasuringRunner] = []
        self.report: Facts = {}

    @cached_property
    def placement(self) -> Placement:
        """The device and precision."""
        return devices.resolve(self._settings)

    @cached_property
    def model(self) -> Model:
        """The model of the settings."""
        return open_model(self._settings)

    @cached_property
    def engine(self) -> QwenEngine:
        """An engine with graphs for as many texts as the settings allow."""
        return self._engine(lambda model, rows: allocate_stages(model, rows, self._measured))

    def run(self) -> Facts:
        """Run all stages, and return the report."""
        stages: dict[str, Callable[[], Facts]] = {
            "device": self._device,
            "load": self._load,
            "codec": self._codec,
            "attention": self._attention,
            "graphs": self._graphs,
            "prompt": self._prompt,
            "equality": self._equality,
        }
        levels = [level for level in LEVELS if level <= self._settings.worker_batch_size]
        stages |= {f"speech_{level}": partial(self._speech, level) for level in levels}
        stages["recommended"] = partial(recommended, self.report)
        for name, stage in stages.items():
            try:
                with torch.inference_mode():
                    self.report[name] = stage()
            except Exception as error:
                self.report[name] = {"failed": f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"}
            print(f"{name}: {json.dumps(self.report[name])}", flush=True)  # noqa: T201 - a command
        return self.report

    def _device(self) -> Facts:
        placement = self.placement
        facts: Facts = {
            "device": str(placement.device),
            "torch": torch.__version__,
            "precision": placement.precision,
        }
        if placement.device.type == "cuda":
            command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]  # noqa: S603
            facts |= {"name": torch.cuda.get_device_name(placement.device), "driver": driver}
            facts |= {"cuda": torch.version.cuda, "capability": torch.cuda.get_device_capability(placement.device)}
        return facts | {"free_gib": _gib(free_memory(placement.device))}

    def _load(self) -> Facts:
        began, before = time.perf_counter(), free_memory(self.placement.device)
        taken = (before or 0) - (free_memory(self.model.device) or 0)
        return {"seconds": round(time.perf_counter() - began, 1), "gib": _gib(taken)}

    def _codec(self) -> Facts:
        codec = self.model.codec
        snr = round(signal_to_noise(codec), 1) if codec.device.type == "cuda" else None
        return {"precision": choose_precision(codec), "tf32_snr_db": snr}

    def _attention(self) -> Facts:
        found: Facts = {}
        exact: Tensor | None = None
        for backend in BACKENDS:
            devices.use(self.placement, backend)
            token, ms = self._frame()
            exact = token if exact is None else exact
            found[backend] = {"ms": ms, "difference": round(float((token - exact).std() / exact.std()), 5)}
        devices.use(self.placement, self._settings.attention_backend)
        return found

    def _frame(self) -> tuple[Tensor, float]:
        """Return the next input of eight rows after a frame, and the time of a second one, without a graph."""
        network, size = self.model.network, FrameSize(8, 256, few=True)
        slots = allocate(network, 8, 256)
        slots.running.fill_(True)
        slots.cap.fill_(8)
        slots.token.copy_(network.embeddings[:8])
        make_frame(network, slots, size)
        token = slots.token.float()
        began = _now(self.model.device)
        make_frame(network, slots, size)
        return token, _ms(began, self.model.device)

    def _graphs(self) -> Facts:
        stages = self.engine.stages
        sizes = {name: facts for runner in self._runners for name, facts in runner.measured.items()}
        seconds = sum(facts["ms"] for facts in sizes.values()) / 1000
        return {"rows": stages.generator.free, "seconds": round(seconds, 1), "sizes": sizes}

    def _prompt(self) -> Facts:
        began = time.perf_counter()
        self._voice.to_json()
        return {"ms": round((time.perf_counter() - began) * 1000, 1)}

    @cached_property
    def _voice(self) -> Any:
        hum: Samples = np.sin(np.arange(5 * SAMPLE_RATE, dtype=np.float32) / 30, dtype=np.float32)
        return self.engine.make_prompt(Reference(Recording(hum, SAMPLE_RATE), TEXT))

    def _equality(self) -> Facts:
        """Compare greedy speech with graphs to speech without them."""
        options = Options(temperature=0, max_seconds=2)
        eager = self._engine(lambda model, _: build_stages(model, 1, Runner(), Runner()))
        one, other = (self._speak(engine, 1, options)[0] for engine in (self.engine, eager))
        shorter = min(len(one), len(other))
        difference = float(np.abs(one[:shorter] - other[:shorter]).max())
        return {"equal": len(one) == len(other) and difference < 1e-3, "difference": round(difference, 6)}

    def _speech(self, level: int) -> Facts:
        """Speak as many texts at the same time, after one round that is not measured."""
        options, first = Options(max_seconds=4), list[float]()
        self._speak(self.engine, level, options)
        began = time.perf_counter()
        speech = self._speak(self.engine, level, options, lambda: first.append(time.perf_counter() - began))
        seconds, audio_seconds = time.perf_counter() - began, sum(map(len, speech)) / SAMPLE_RATE
        return {
            "audio_seconds_per_second": round(audio_seconds / seconds, 2),
            "real_time_of_each": round(audio_seconds / seconds / level, 2),
            "first_audio_ms": round(first[0] * 1000, 1),
        }

    def _speak(
        self, engine: QwenEngine, level: int, options: Options, on_piece: Callable[[], object] = lambda: None
    ) -> list[Samples]:
        pieces: dict[str, list[Samples]] = {str(next(self._ids)): [] for _ in range(level)}
        for job_id in pieces:
            engine.admit(Utterance(job_id, TEXT, self._voice, options))
        left = level
        while left:
            for event in engine.step():
                if not isinstance(event, Finished):
                    on_piece()
                    pieces[event.job_id].append(event.samples)
                elif event.error is not None:
                    raise event.error
                else:
                    left -= 1
        return [np.concatenate(samples) for samples in pieces.values()]

    def _engine(self, allocate: Callable[[Model, int], Stages]) -> QwenEngine:
        capacity = self._settings.worker_batch_size
        return QwenEngine(lambda: self.model, capacity=capacity, model="checked", allocate=allocate)

    def _measured(self, runner: Runner) -> Runner:
        self._runners.append(_MeasuringRunner(runner, self.model.device))
        return self._runners[-1]


def recommended(report: Facts) -> Facts:
    """Return the settings that the stages speak for.

    The number of texts has the highest throughput among those at which each text is faster than real time.
    """
    speech = {int(name[7:]): facts for name, facts in report.items() if name.startswith("speech_")}
    speech = {level: facts for level, facts in speech.items() if "failed" not in facts}
    fast = {level: facts for level, facts in speech.items() if facts["real_time_of_each"] >= 1}
    settings: Facts = {}
    if candidates := fast or speech:
        settings["WORKER_BATCH_SIZE"] = max(candidates, key=lambda n: candidates[n]["audio_seconds_per_second"])
    if report["device"].get("device") == "cpu":
        return settings | {"TORCH_DTYPE": "int8"}
    attention = {name: facts for name, facts in report["attention"].items() if name in BACKENDS}
    exact = [name for name, facts in attention.items() if facts["difference"] <= MOST_DIFFERENT]
    if exact:
        settings["ATTENTION_BACKEND"] = min(exact, key=lambda name: attention[name]["ms"])
    if not speech:  # a model that is not finite fails every text
        settings["TORCH_DTYPE"] = "float32"
    return settings


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _ms(began: float, device: torch.device) -> float:
    return round((_now(device) - began) * 1000, 2)


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / 2**30, 2)


def main(settings: Settings, arguments: Sequence[str]) -> int:
    """Run the check and write the report. Return the exit status, which is 1 if a stage failed."""
    parser = argparse.ArgumentParser(description="Check the engine on this machine.")
    parser.add_argument("--report", type=Path, help="file for the report, as JSON")
    given = parser.parse_args(arguments)
    report = GpuCheck(settings).run()
    if given.report:
        given.report.write_text(json.dumps(report, indent=2) + "\n")
    return int(any("failed" in facts for facts in report.values()))
