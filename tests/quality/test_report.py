"""Summaries and bounds."""

from typing import Any

from tests.quality.report import CEILINGS, COLUMNS, FLOORS, bounds, summarize, table, violations


def measured(**values: float | None) -> dict[str, Any]:
    """Return the measures of a file."""
    names = {*COLUMNS, "runaway"} - {"word_error_rate", "word_error_rate_capped", "runaway_rate"}
    counts = {"words": 10, "word_errors": 1, "word_errors_capped": 1}
    return {**dict.fromkeys(names, 1.0), **counts, **values}


def test_word_errors_are_summed() -> None:
    runaway = measured(word_errors=500, word_errors_capped=10, words=10, runaway=1.0)
    summary = summarize([measured(words=90, word_errors=0, word_errors_capped=0, runaway=0.0), runaway])
    assert summary["word_error_rate"] == 5
    assert summary["word_error_rate_capped"] == 0.1
    assert summary["runaway_rate"] == 0.5


def test_summary_without_recognizer() -> None:
    summary = summarize([measured(word_errors=None)])
    assert summary["word_error_rate"] is None
    assert "| – |" in table({"run": summary})


def test_bounds_of_worst_run() -> None:
    runs = [summarize([measured(similarity=value, clipped=value)]) for value in (0.4, 0.8)]
    limits = bounds(runs)
    assert limits["max"]["clipped"] == 1.0
    assert limits["min"]["similarity"] == 0.3
    assert not [name for run in runs for name in violations(run, limits)]


def test_bound_of_negative_margin() -> None:
    limits = bounds([summarize([measured(similarity_margin=-0.2)])])
    assert limits["min"]["similarity_margin"] == -0.25


def test_bound_of_margin_near_zero() -> None:
    limits = bounds([summarize([measured(similarity_margin=0.01)])])
    assert limits["min"]["similarity_margin"] == -0.01


def test_each_violation_is_named() -> None:
    limits = bounds([summarize([measured()])])
    poor = dict.fromkeys(CEILINGS, 99.0) | dict.fromkeys(FLOORS, -99.0)
    assert set(violations(poor, limits)) == {*CEILINGS, *FLOORS}
