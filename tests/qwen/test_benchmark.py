"""The benchmark runs: tiny and on a CPU, in stages, and goes on from what it has found."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import qwen_load
from tests.benchmarks.qwen_engine import Bench, run, stages, table

SMALLEST = qwen_load.Size((2.0,), (13, 13), 1)


@pytest.mark.slow
def test_it_measures_in_stages_and_goes_on_from_what_it_has(tmp_path: Path, checkpoint: Path) -> None:
    results = tmp_path / "results.json"
    found = run(Bench("tiny", "cpu", (1, 2), checkpoint, SMALLEST), results)
    assert found["logits"]["float32"] < 1e-4
    assert found["codec"]["chunked_snr_db"] > 60
    assert found["seeds"]["same_share"] == 1
    assert found["closed_2"]["audio_seconds_per_second"] > 0
    assert found["operations"]["syncs_per_frame"] == 0
    written = json.loads(results.read_text())
    assert written["ms_per_frame"].keys() == {"1", "2"}
    again = Bench("tiny", "cpu", (1, 2), tmp_path / "no model is needed", SMALLEST)
    assert run(again, results) == written["stages"]
    lines = table(again).splitlines()
    assert len(lines) == 4 + len(stages(again))
