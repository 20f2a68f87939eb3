"""Summaries of measures, bounds, and the Markdown table."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Summary = dict[str, float | None]

TOLERANCE = 0.25  # between the worst calibrated value and a bound
# A difference near zero: the same speech, computed by another processor, changed it by 0.008.
LEAST_TOLERANCES = {"similarity_margin": 0.02}
# Summaries for which a larger value is worse, and those for which a smaller value is worse.
CEILINGS = (
    "word_error_rate",
    "clipped",
    "leading_silence",
    "trailing_silence",
    "level_jump",
    "pitch_jump",
    "repeated_words",
    "echoed_words",
    "runaway_rate",
    "words_per_minute",
)
FLOORS = ("similarity", "similarity_margin", "dnsmos", "words_per_minute")
COLUMNS = {
    "word_error_rate": ("word error rate, %", 100),
    "word_error_rate_capped": ("capped, %", 100),
    "similarity": ("similarity", 1),
    "similarity_margin": ("margin to other speakers", 1),
    "dnsmos": ("DNSMOS", 1),
    "words_per_minute": ("words per minute", 1),
    "seconds": ("seconds", 1),
    "seconds_capped": ("capped", 1),
    "runaway_rate": ("runaways, %", 100),
    "clipped": ("clipped, ‰", 1000),
    "leading_silence": ("leading silence, s", 1),
    "trailing_silence": ("trailing silence, s", 1),
    "loudness": ("loudness, dBFS", 1),
    "level_jump": ("level jump, dB", 1),
    "pitch_jump": ("pitch jump, semitones", 1),
    "repeated_words": ("repeated words", 1),
    "echoed_words": ("echoed words", 1),
}


def summarize(items: Sequence[Mapping[str, Any]]) -> Summary:
    """Summarize several files: word errors in total, jumps and repetitions at their worst, means of the others."""
    recognized = [item for item in items if item["word_errors"] is not None]

    def mean(name: str) -> float:
        return float(np.mean([item[name] for item in items]))

    def rate(name: str) -> float | None:
        words = sum(item["words"] for item in recognized)
        return sum(item[name] for item in recognized) / words if words else None

    def worst(name: str) -> float | None:
        return max((float(item[name]) for item in items if name in item), default=None)

    means = ("similarity", "similarity_margin", "dnsmos", "words_per_minute", "seconds", "seconds_capped")
    return {
        "files": len(items),
        "word_error_rate": rate("word_errors"),
        "word_error_rate_capped": rate("word_errors_capped"),
        "runaway_rate": mean("runaway"),
        **{name: mean(name) for name in (*means, "clipped", "leading_silence", "trailing_silence", "loudness")},
        **{name: worst(name) for name in ("level_jump", "pitch_jump", "repeated_words", "echoed_words")},
    }


def bounds(summaries: Sequence[Summary]) -> dict[str, dict[str, float]]:
    """Return the bounds of the measures: the worst values of several runs with a tolerance of 25 %."""
    worst = {name: max(summary[name] or 0.0 for summary in summaries) for name in CEILINGS}
    least = {name: min(summary[name] or 0.0 for summary in summaries) for name in FLOORS}

    def tolerance(name: str, value: float) -> float:
        return max(TOLERANCE * abs(value), LEAST_TOLERANCES.get(name, 0.0))

    return {
        "max": {name: round(value + tolerance(name, value), 5) for name, value in worst.items()},
        "min": {name: round(value - tolerance(name, value), 5) for name, value in least.items()},
    }


def violations(summary: Mapping[str, float | None], limits: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of the measures that are out of bounds."""
    above = [name for name, limit in limits["max"].items() if (summary[name] or 0.0) > limit]
    below = [name for name, limit in limits["min"].items() if (summary[name] or 0.0) < limit]
    return [*above, *below]


def fingerprint(versions: Mapping[str, str]) -> dict[str, Any]:
    """Describe the machine and the packages of the measures."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **versions,
    }


def table(summaries: Mapping[str, Summary]) -> str:
    """Return a Markdown table with a row for each summary."""
    titles = ["run", *(title for title, _ in COLUMNS.values())]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for run, summary in summaries.items():
        values = [(summary[name], factor) for name, (_, factor) in COLUMNS.items()]
        cells = ["–" if value is None else f"{factor * value:.3g}" for value, factor in values]
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return "\n".join(lines)
