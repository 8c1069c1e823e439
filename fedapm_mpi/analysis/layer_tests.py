"""The multiplier test of runs: LM of every shared layer, as recorded in training."""

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedapm_mpi.analysis.plots import (
    COLORS,
    STYLE,
    figure_kind,
    plain,
    pyplot,
    save,
    write_figure,
)
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.optim.layer_test import AIC_THRESHOLD, LayerTest
from fedapm_mpi.utils.atomic_io import atomic_write, open_regular
from fedapm_mpi.utils.terminal import echo, print_table
from fedapm_mpi.utils.text import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEY = "multiplier"
"""Of a record: LM by layer."""

EXPLANATION = (
    "LM is about 1 where clients agree; above "
    f"{AIC_THRESHOLD:g} a layer of each client's own pays off"
)

LayerValues = Mapping[str, float]
"""LM by layer, in the model's order."""


def last_test(run: Run) -> tuple[int, LayerValues] | None:
    """Return the round of a run's last multiplier test, and LM by layer, if any."""
    for record in reversed(run.records):
        if record.get(KEY):
            found = {n: value for n, value in record[KEY].items() if value is not None}
            return record["round"], found
    return None


def print_layers(runs: Sequence[Run]) -> None:
    """Print LM by layer of runs, those without a test left out."""
    tested = [run for run in runs if last_test(run) is not None]
    print_table(
        "Multiplier test: LM by shared layer",
        ("layer", "parameters", *(run.label for run in tested)),
        layer_rows(tested),
    )
    for line in [*describe(tested), EXPLANATION]:
        echo(line)


def print_tests(tests: Mapping[str, LayerTest]) -> None:
    """Print the tests of a run's final state, by layer."""
    rows = [
        (name, test.size, test.clients, test.lm, test.p_value)
        for name, test in tests.items()
    ]
    header = ("layer", "parameters", "clients", "LM", "p-value")
    print_table("Multiplier test of the final state", header, rows)
    echo(EXPLANATION)


def layer_rows(runs: Sequence[Run]) -> list[list[object]]:
    """Return a row for each layer: its name, its parameters, LM in each run.

    Of each run it is the last test; `None` where a run does not share the layer.
    """
    tests = [found[1] if (found := last_test(run)) else {} for run in runs]
    sizes: dict[str, int] = {}
    for run in runs:
        sizes |= _sizes(run)
    names = dict.fromkeys(name for test in tests for name in test)
    return [[n, sizes.get(n), *(test.get(n) for test in tests)] for n in names]


def describe(runs: Sequence[Run]) -> list[str]:
    """Return what to say of the tests: when they were made, and what stands out."""
    lines = []
    for run in runs:
        t, test = last_test(run) or (0, {})
        above = sum(value >= AIC_THRESHOLD for value in test.values())
        lines.append(
            f"{run.label}: after round {t}, {above} of {len(test)} shared layers have "
            f"LM of {AIC_THRESHOLD:g} or more"
        )
    return lines


def draw_layers(tests: Mapping[str, LayerValues], stem: Path) -> list[Path]:
    """Draw LM by layer, a bar for each test, as PNG and SVG; return the files.

    Parameters
    ----------
    tests
        By the name that the legend has.
    stem
        Path of the files without suffix.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    plt = pyplot()
    with plt.rc_context(STYLE):
        return save(_figure(tests), stem)


def draw_layers_to(tests: Mapping[str, LayerValues], path: Path) -> None:
    """Draw LM by layer to one file; see `draw_layers`.

    Raises
    ------
    ConfigError
        If its suffix is not png, svg or pdf, or matplotlib is not installed.
    """
    kind = figure_kind(path)
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure = _figure(tests)
        atomic_write(path, partial(write_figure, figure, kind))
    plt.close(figure)


def _figure(tests: Mapping[str, LayerValues]) -> "Figure":
    names = list(dict.fromkeys(name for test in tests.values() for name in test))
    height = 0.8 / max(1, len(tests))
    figure: Figure
    figure, ax = pyplot().subplots(
        figsize=(7.0, max(2.2, 0.3 * len(names) + 1.3)), layout="constrained"
    )
    for k, (label, test) in enumerate(tests.items()):
        places = [
            i + (k + 0.5) * height - 0.4 for i, n in enumerate(names) if n in test
        ]
        values = [test[name] for name in names if name in test]
        color = COLORS[k % len(COLORS)]
        ax.barh(places, values, height, color=color, label=plain(shorten(label)))
    ax.axvline(AIC_THRESHOLD, color="#444444", linewidth=1.2, linestyle="--")
    ax.axvline(1, color="#999999", linewidth=1, linestyle=":")
    ax.set_yticks(range(len(names)), [plain(shorten(n)) for n in names], fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.set_axisbelow(True)
    title = f"How clients differ, by shared layer (dashed: {AIC_THRESHOLD:g})"
    ax.set(title=title, xlabel="LM")
    largest = max((v for test in tests.values() for v in test.values()), default=0.0)
    if largest > 10 * AIC_THRESHOLD:
        ax.set_xscale("symlog", linthresh=AIC_THRESHOLD)
    ax.set_xlim(left=0)
    if len(tests) > 1:
        ax.legend()
    return figure


def _sizes(run: Run) -> dict[str, int]:
    """Return the sizes of a run's parameters by name; none if they cannot be read."""
    try:
        with open_regular(run.path / "split.csv") as raw:
            rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
            return {row["name"]: int(row["size"]) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, csv.Error):
        return {}
