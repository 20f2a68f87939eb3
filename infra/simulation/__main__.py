"""`python -m infra.simulation`: runs every scenario and writes the tables and plots of docs/scaling.md."""

import argparse
import sys
from pathlib import Path

from infra.simulation.assumptions import load_assumptions, load_prices
from infra.simulation.plots import draw_plots
from infra.simulation.report import write_tables
from infra.simulation.scenarios import Simulator
from infra.simulation.speed import load_speed

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run the simulation and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of scaling.md")
    docs = parser.parse_args().docs
    assumptions = load_assumptions()
    speed = load_speed(ROOT / "docs" / "benchmarks", assumptions.speed)
    sys.stdout.write(f"GPU: {speed.gpu}; {'measured' if speed.is_measured else 'assumed, not measured'}\n")
    simulator = Simulator(ROOT, assumptions, speed)
    write_tables(docs / "scaling.md", simulator, load_prices())
    draw_plots(docs / "scaling", simulator)


if __name__ == "__main__":
    main()
