"""Phases of a round, and how their times grow.

    python -m benchmarks.round_breakdown [--rounds 8] [--repeats 3] [--csv FILE]
        [--plot FILE]

FedAPM on a perceptron. One parameter of a base case is changed at a time: clients,
participants of a round, samples of a client, width of the hidden layer, and ranks; all
several times in turn. Reports the seconds of a round's phases, medians over all rounds
but the first of a run, and plots them as stacked bars. "Waiting" is the excess of the
slowest rank's work over the mean.
"""

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import many_clients as many
from benchmarks._common import keep, machine, training
from fedapm_mpi.analysis.plots import COLORS, STYLE, pyplot
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.config import yaml_io as yamlfile

PHASES = (
    "broadcast", "local", "waiting", "reduce", "server", "consensus", "evaluate",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A run."""

    clients: int = 1000
    participants: int = 40
    samples: int = 100
    hidden: int = 128
    ranks: int = 3


CHANGES: dict[str, tuple[int, ...]] = {
    "clients": (100, 1000, 10_000),
    "participants": (10, 40, 160),
    "samples": (25, 100, 400),
    "hidden": (32, 128, 512),
    "ranks": (1, 2, 3, 5),
}


def phases(case: Case, rounds: int) -> dict[str, list[float]]:
    """Train, and return the seconds of each phase in every round but the first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        many.prepare(data, case.clients, case.samples)
        values = many.configuration(data, case.participants, rounds)
        values["model"] = {"name": "mlp", "hidden": [case.hidden]}
        values["diagnostics"] = {"every": 1}
        config, run = folder / "run.yaml", folder / "run"
        config.write_text(yamlfile.dump(values))
        command = training(config, run, case.ranks)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = Run.load(run).records[2:]
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for record in records:
        seconds = record["seconds"]
        mean = seconds["local_mean"]
        seconds |= {"local": mean, "waiting": max(0.0, seconds["local"] - mean)}
        for phase in PHASES:
            found[phase].append(seconds.get(phase, 0.0))
    return found


def draw(found: dict[Case, dict[str, float]], path: Path) -> None:
    """Draw the phases of all runs, a panel for each thing that was changed."""
    with pyplot().rc_context(STYLE):
        _draw(found).savefig(path, dpi=100)


def _draw(found: dict[Case, dict[str, float]]) -> Any:
    plt = pyplot()
    figure, panels = plt.subplots(1, len(CHANGES), figsize=(13, 4), sharey=True)
    for panel, (what, values) in zip(panels, CHANGES.items(), strict=True):
        panel.set_axisbelow(True)
        base = [0.0] * len(values)
        names = [f"{value:,}" for value in values]
        for phase, colour in zip(PHASES, COLORS, strict=True):
            taken = [found[replace(Case(), **{what: v})][phase] for v in values]
            panel.bar(names, taken, bottom=base, label=phase, color=colour)
            base = [b + t for b, t in zip(base, taken, strict=True)]
        panel.set_xlabel("width of the hidden layer" if what == "hidden" else what)
    panels[0].set_ylabel("seconds a round")
    panels[0].legend(fontsize="small")
    figure.tight_layout()
    return figure


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_breakdown")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(words)
    print(machine())
    changed = [(what, value) for what, values in CHANGES.items() for value in values]
    cases = {replace(Case(), **{what: value}) for what, value in changed}
    rounds: dict[Case, list[dict[str, list[float]]]] = {case: [] for case in cases}
    for _ in range(args.repeats):
        for case, runs in rounds.items():
            runs.append(phases(case, args.rounds))
    found = {
        case: {
            phase: statistics.median(s for taken in runs for s in taken[phase])
            for phase in PHASES
        }
        for case, runs in rounds.items()
    }
    lines: list[list[Any]] = []
    for what, value in changed:
        case = replace(Case(), **{what: value})
        listed = ", ".join(f"{p} {1e3 * s:.1f}" for p, s in found[case].items())
        total = sum(found[case].values())
        print(f"{what} {value}: {1e3 * total:.1f} ms per round ({listed})")
        lines.append([what, *asdict(case).values(), *found[case].values()])
    header = ["changed", *asdict(Case()), *(f"{phase}_s" for phase in PHASES)]
    keep(args.csv, header, lines)
    if args.plot is not None:
        draw(found, args.plot)


if __name__ == "__main__":
    main()
