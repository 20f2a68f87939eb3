"""The constants of the bill match the code, the templates and the documentation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions.background import sweep
from infra.simulation.assumptions import load_prices
from infra.simulation.cost import HOURS_A_MONTH, POLLED_QUEUES, SWEEP_LISTINGS, SWEEP_PUTS, instance_hour
from infra.simulation.template import read_policy
from tests.infra.cloudformation import FUNCTIONS, template
from tests.support.fake_service import FakeService

ROOT = Path(__file__).parents[3]


class CountedBucket:
    """A bucket that counts calls by name."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._bucket, name)


async def test_sweep_of_empty_bucket_matches_bill() -> None:
    resources = FakeService().resources
    bucket: Any = CountedBucket(resources.bucket)
    await sweep.handle(replace(resources, bucket=bucket), {})
    # A listing costs 0.22 dollars a month, so the figures of the docs tolerate a few more.
    assert bucket.calls.count("list") == pytest.approx(SWEEP_LISTINGS, abs=3)
    assert bucket.calls.count("put") == SWEEP_PUTS


def test_polled_queues_match_templates() -> None:
    events = [event for one in FUNCTIONS.values() for event in one["Properties"].get("Events", {}).values()]
    assert sum(event["Type"] == "SQS" for event in events) == POLLED_QUEUES


def test_preview_wait_is_read_from_parameter() -> None:
    assert read_policy(ROOT).limits.preview_wait_seconds == 25
    assert read_policy(ROOT, {"PreviewWaitSeconds": 0}).limits.preview_wait_seconds == 0


def test_price_of_running_worker_is_documented() -> None:
    month = HOURS_A_MONTH * instance_hour(read_policy(ROOT).scaling, load_prices())
    assert f"about {month:.0f} dollars a month" in template("root")["Parameters"]["MinWorkers"]["Description"]
    assert f"{month:.0f} dollars per month" in (ROOT / "docs" / "operating.md").read_text()
