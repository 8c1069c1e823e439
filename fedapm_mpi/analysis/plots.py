"""Plots of runs by matplotlib, which is imported only here and only to draw."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedapm_mpi.analysis.comparison import common_headline, side_by_side
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.tasks import LOSS
from fedapm_mpi.tracking.summary import evaluated_parts
from fedapm_mpi.utils.atomic_io import atomic_write
from fedapm_mpi.utils.terminal import printable
from fedapm_mpi.utils.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Distinguishable with color vision deficiency (Okabe and Ito)."""

STYLE = {
    "axes.edgecolor": "#666666",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedapm",
}
SUFFIXES = (".png", ".svg", ".pdf")
"""Of the files that a figure can be written to."""

MAX_NAMED_CLIENTS = 60
"""Most clients whose names fit below an axis."""

Rows = Sequence[Mapping[str, Any]]
"""The last evaluation of a run, a row a client."""

Panel = Callable[["Axes", Run, str], None]


def draw_curves(runs: Sequence[Run], stem: Path) -> list[Path]:
    """Draw metrics by round, as PNG and SVG; return the files.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    metric = common_headline(runs)
    headline = partial(_metric, metric=metric)
    panels: list[tuple[str, Panel]] = [
        (f"{metric.capitalize()}, mean over clients (dotted: worst decile)", headline),
        ("Test loss, mean over clients", _test_loss),
        ("Training loss of the participants", _train_loss),
    ]
    if any(_has_residuals(run) for run in runs):
        panels.append(("Residuals: primal (solid), dual (faint)", _residuals))
    plt = pyplot()
    rows = (len(panels) + 1) // 2 if len(panels) > 3 else 1
    columns = -(-len(panels) // rows)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(4.9 * columns, 3.3 * rows + 0.4),
            layout="constrained",
            squeeze=False,
        )
        for ax, (title, draw) in zip(axes.flat, panels, strict=True):
            for k, run in enumerate(runs):
                draw(ax, run, COLORS[k % len(COLORS)])
            ax.set(title=title, xlabel="round")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set_xlim(left=0)
        _legend(figure, runs, counts=True)
        return save(figure, stem)


def draw_clients(runs: Sequence[Run], stem: Path) -> list[Path]:
    """Draw a metric of the clients that all runs evaluated; return the files.

    Few clients are named, and sorted by the first run so that runs can be compared
    client by client. Many are sorted in each run separately.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    plt = pyplot()
    metric = common_headline(runs)
    clients = _defined(side_by_side(runs), metric)
    first = clients[0]
    named = len(first) <= MAX_NAMED_CLIENTS
    order = _sorted(first, metric)
    part = evaluated_parts(run.config.evaluation.split for run in runs)
    with plt.rc_context(STYLE):
        width = min(12.0, max(6.0, 0.36 * len(first) + 1.5)) if named else 7.0
        figure, ax = plt.subplots(figsize=(width, 4.2), layout="constrained")
        for k, rows in enumerate(clients):
            places = order if named else _sorted(rows, metric)
            values = [rows[i][metric] for i in places]
            marks: dict[str, Any] = {"marker": "o", "linestyle": "none", "alpha": 0.85}
            color = COLORS[k % len(COLORS)]
            ax.plot(values, color=color, **(marks if named else {}))
            mean = sum(values) / max(1, len(values))
            ax.axhline(mean, color=color, linewidth=1, linestyle="--", alpha=0.7)
        if named:
            if len(runs) > 1:
                _connect(ax, clients, order, metric)
            names = [plain(shorten(first[i]["name"])) for i in order]
            ax.set_xticks(range(len(order)), names, rotation=60, ha="right", fontsize=8)
            ax.grid(visible=False, axis="x")
        else:
            ax.set_xlabel("clients, sorted in each run")
        mean_of = f"dashed: mean over {len(first):,} client{'s' * (len(first) != 1)}"
        title = f"{metric.capitalize()} on the client's own {part} part ({mean_of})"
        ax.set(title=title)
        _legend(figure, runs)
        return save(figure, stem)


def _metric(ax: "Axes", run: Run, color: str, metric: str) -> None:
    ax.plot(*run.curve(metric), color=color, marker=".")
    ax.plot(*run.curve(f"{metric}_worst_decile"), color=color, linestyle=":")
    if metric in run.metrics.bounds:
        ax.set_ylim(*run.metrics.bounds[metric])


def _test_loss(ax: "Axes", run: Run, color: str) -> None:
    ax.plot(*run.curve(LOSS), color=color, marker=".")
    ax.set_ylim(bottom=0)


def _train_loss(ax: "Axes", run: Run, color: str) -> None:
    ax.plot(*run.curve("train_loss"), color=color, linewidth=1.2)
    ax.set_ylim(bottom=0)


def _residuals(ax: "Axes", run: Run, color: str) -> None:
    ax.set_yscale("log")
    if not _has_residuals(run):
        return
    for key, alpha in (("dual_residual", 0.45), ("primal_residual", 1.0)):
        rounds, values = run.curve(key)
        positive = [(t, v) for t, v in zip(rounds, values, strict=True) if v > 0]
        ax.plot(*zip(*positive, strict=True), color=color, alpha=alpha)


def _has_residuals(run: Run) -> bool:
    """Return whether the run has a penalty, without which residuals mean nothing."""
    return any(value > 0 for value in run.curve("dual_residual")[1])


def _defined(clients: Sequence[Rows], metric: str) -> list[Rows]:
    """Return the rows of only those clients whose metric is defined in all runs."""
    columns = zip(*clients, strict=True)
    kept = [all(row[metric] == row[metric] for row in rows) for rows in columns]
    return [list(compress(rows, kept)) for rows in clients]


def _sorted(rows: Rows, metric: str) -> list[int]:
    """Return the places of clients in ascending order of a metric."""
    return sorted(range(len(rows)), key=lambda i: (rows[i][metric], i))


def _connect(
    ax: "Axes", clients: Sequence[Rows], order: Sequence[int], metric: str
) -> None:
    """Draw a line from the lowest to the highest value of each client."""
    for place, i in enumerate(order):
        values = [rows[i][metric] for rows in clients]
        ax.vlines(place, min(values), max(values), color="#bbbbbb", zorder=0)


def _legend(figure: "Figure", runs: Sequence[Run], *, counts: bool = False) -> None:
    """Name the runs and, with `counts`, over how many clients their means are."""
    from matplotlib.lines import Line2D

    labels = [plain(run.label) for run in runs]
    if counts:
        over = [run.evaluated() for run in runs]
        labels = [
            f"{label} ({share} clients)" if share else label
            for label, share in zip(labels, over, strict=True)
        ]
    handles = [
        Line2D([], [], color=COLORS[k % len(COLORS)], linewidth=3, label=label)
        for k, label in enumerate(labels)
    ]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(4, len(runs)), fontsize=11
    )


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG, close it and return the files."""
    import matplotlib.pyplot as plt

    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        atomic_write(path, partial(write_figure, figure, path.suffix[1:]))
    plt.close(figure)
    return paths


def write_figure(figure: "Figure", kind: str, path: Path) -> None:
    """Write a figure as png, svg or pdf; without dates, so that files are equal."""
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(path, format=kind, metadata=metadata)


def figure_kind(path: Path) -> str:
    """Return the kind of a figure's file by its suffix.

    Raises
    ------
    ConfigError
        If it is none of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        msg = f"{path}: a plot is written as {', '.join(SUFFIXES)}; name it so"
        raise ConfigError(msg)
    return path.suffix[1:]


def plain(text: str) -> str:
    """Return text that matplotlib draws as it is: between $ it sees mathematics."""
    return printable(text).replace("$", r"\$")


def pyplot() -> Any:
    """Return matplotlib's pyplot, set to draw to files; an error if it is missing."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        msg = (
            "figures need matplotlib, which is not installed: install it with "
            "pip install 'fedapm-mpi[report]'"
        )
        raise ConfigError(msg) from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt
