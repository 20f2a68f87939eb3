"""Rates of true and false matches of audio fingerprints: `python -m tests.quality.fingerprint`.

Each clip is changed and searched in the fingerprints of all clips, and in those of all other clips. Needs the
programs `espeak-ng` and `ffmpeg`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpu_runner.engines.hibari.stock_voice import SAMPLE_RATE as RATE
from pipeline.marking.fingerprint import Words, excerpts, find, fingerprint
from tests.quality.watermark import ATTACKS, Clip, first_clips

LEAST_SECONDS = 2  # shorter clips can't be found
TIMES_COMPARED = 1000  # of the fingerprints of all clips, in the measurement of the time


@dataclass(frozen=True, slots=True)
class Row:
    """The matches of all clips after a change."""

    change: str
    true: int
    wrong: int
    """Another clip was more similar than the own one."""
    false: int
    """Another clip matches, if the own one is not stored."""
    clips: int


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.quality.fingerprint", description=__doc__)
    parser.add_argument("--results", type=Path, help="write RESULTS.json and RESULTS.md")
    parser.add_argument("--limit", type=int, help="use only the first clips of each source")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        clips = first_clips(Path(name), arguments.limit)
    clips = [clip for clip in clips if len(clip["samples"]) >= LEAST_SECONDS * RATE]
    stored = [fingerprint(clip["samples"], RATE) for clip in clips]
    rows = [measured(change, clips, stored) for change in ATTACKS]
    write(rows, times(clips, stored), arguments.results)


def measured(change: str, clips: Sequence[Clip], stored: Sequence[Words]) -> Row:
    """Search each clip after a change."""
    ends = np.cumsum([len(words) for words in stored])
    true = wrong = false = 0
    for number, samples in enumerate(ATTACKS[change]([clip["samples"] for clip in clips])):
        queries = excerpts(samples, RATE)
        match = find(queries, np.concatenate(stored))
        is_own = match is not None and int(np.searchsorted(ends, match.frame, side="right")) == number
        true += int(is_own)
        wrong += int(match is not None and not is_own)
        others = [words for other, words in enumerate(stored) if other != number]
        false += int(find(queries, np.concatenate(others)) is not None)
    return Row(change, true, wrong, false, len(clips))


def times(clips: Sequence[Clip], stored: Sequence[Words]) -> dict[str, float]:
    """Return the CPU time of a fingerprint, for each second of audio, and of a search."""
    seconds = sum(len(clip["samples"]) for clip in clips) / RATE
    began = time.process_time()
    for clip in clips:
        fingerprint(clip["samples"], RATE)
    fingerprint_ms = 1000 * (time.process_time() - began) / seconds
    queries, many = excerpts(clips[0]["samples"], RATE), np.concatenate([*stored] * TIMES_COMPARED)
    began = time.process_time()
    find(queries, many)
    search_ms = 1000 * (time.process_time() - began)
    return {
        "clips": len(clips),
        "seconds of audio": round(seconds, 1),
        "fingerprint, ms per second of audio": round(fingerprint_ms, 2),
        f"search in {len(stored) * TIMES_COMPARED:,} fingerprints, ms": round(search_ms, 1),
    }


def write(rows: Sequence[Row], facts: dict[str, float], results: Path | None) -> None:
    """Print the table, and write it."""
    lines = ["| after | found | other clip found | found without the own clip |", "|---|---|---|---|"]
    lines += [f"| {row.change} | {row.true} of {row.clips} | {row.wrong} | {row.false} |" for row in rows]
    markdown = "\n".join(lines) + "\n\n" + "".join(f"- {name}: {value}\n" for name, value in facts.items())
    print(markdown)
    if results:
        results.with_suffix(".md").write_text(markdown)
        document = {"facts": facts, "rows": [{name: getattr(row, name) for name in Row.__slots__} for row in rows]}
        results.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
