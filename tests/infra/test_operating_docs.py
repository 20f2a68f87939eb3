"""The operating page lists every alarm, and its figures match the simulation."""

import re
from pathlib import Path

import pytest

from tests.infra.cloudformation import properties, resources

DOCS = Path(__file__).parents[2] / "docs"
OPERATING = (DOCS / "operating.md").read_text()
SCALING = (DOCS / "scaling.md").read_text()


def alarms() -> list[str]:
    return sorted(
        name for template in ("alarms", "worker-alarms") for name in resources(template, "AWS::CloudWatch::Alarm")
    )


@pytest.mark.parametrize("name", alarms())
def test_alarm_is_documented(name: str) -> None:
    section = OPERATING.split("## Alarms")[1].split("## ")[0]
    assert f"`{name}`" in section


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("dollars a day", "**total**"),
        ("dollars a month", "$ per month"),
        ("of it GPU instances, a day", "GPU instances"),
        ("dollars per 1,000 previews", "$ per 1,000 previews"),
    ],
)
def test_costs_match_simulation(ours: str, theirs: str) -> None:
    assert row(OPERATING, ours) == row(SCALING.split("<!-- volumes -->")[1], theirs)


def row(text: str, name: str) -> list[str]:
    found = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", text, re.MULTILINE)
    assert found is not None, name
    return [cell.strip(" *") for cell in found[1].split("|")]


def test_graphs_are_documented() -> None:
    body = str(properties("dashboard", "Dashboard")["DashboardBody"])
    titles = re.findall(r'"title": "([^",]+)', body)
    section = OPERATING.split("## Read the dashboard")[1].split("## ")[0]
    assert titles
    for title in titles:
        assert title.split(":")[0] in section
