"""Figures of a scaling study; matplotlib is imported only to draw."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.analysis.plots import COLORS, STYLE, pyplot, save
from fedapm_mpi.studies.scaling.measurements import PHASES
from fedapm_mpi.studies.scaling.predict import Prediction
from fedapm_mpi.studies.scaling.speedup import Band
from fedapm_mpi.studies.scaling.summary import Row
from fedapm_mpi.studies.scaling.tables import KINDS


def draw_speed_up(rows: Sequence[Row], stem: Path) -> list[Path]:
    """Draw speed-up and efficiency with their bands, as PNG and SVG."""
    plt = pyplot()
    kinds = [
        kind for kind in ("strong", "weak") if any(row.kind == kind for row in rows)
    ]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(8.6, 3.5), layout="constrained"
        )
        ranks = sorted({row.client_ranks for row in rows if row.kind in kinds})
        left.plot(ranks, ranks, color="#999999", linestyle="--", label="ideal")
        right.axhline(1, color="#999999", linestyle="--")
        for colour, kind in zip(COLORS, kinds, strict=False):
            found = [row for row in rows if row.kind == kind and row.scaled]
            places = [row.client_ranks for row in found]
            speeds = [row.scaled.speed_up for row in found if row.scaled]
            _line(left, places, speeds, colour, f"{kind}: {KINDS[kind]}")
            efficiencies = [row.scaled.efficiency for row in found if row.scaled]
            _line(right, places, efficiencies, colour, "")
        for ax in (left, right):
            rank_axis(ax, ranks)
        left.set_yscale("log", base=2)
        left.yaxis.set_major_formatter("{x:g}")
        left.set(title="Speed-up")
        left.legend(fontsize=8)
        right.set(title="Efficiency")
        right.set_ylim(0, 1.1)
        return save(figure, stem)


def draw_phases(rows: Sequence[Row], stem: Path) -> list[Path]:
    """Draw the seconds of a round as bars of its phases, as PNG and SVG."""
    plt = pyplot()
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(kinds),
            figsize=(3.1 * len(kinds) + 1.6, 3.6),
            layout="constrained",
            squeeze=False,
        )
        for ax, kind in zip(axes.flat, kinds, strict=True):
            found = [row for row in rows if row.kind == kind]
            names = [row.value or str(row.client_ranks) for row in found]
            parts = {name: [row.phases[name] for row in found] for name in PHASES}
            stack(ax, names, parts)
            what = "value" if kind == "size" else "client ranks"
            ax.set(title=kind, xlabel=what)
        axes.flat[0].set_ylabel("seconds per round")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center")
        return save(figure, stem)


def draw_model(
    rows: Sequence[Row],
    curves: Mapping[str, Sequence[Prediction]],
    fits: Mapping[str, float],
    stem: Path,
) -> list[Path]:
    """Draw measured and predicted seconds of a round, and the predicted phases.

    Parameters
    ----------
    rows
        The measured points.
    curves
        Predictions by kind of study; each kind has a row of panels.
    fits
        Seconds of a round by the model, by case of the measured points, on the cores
        that they had.
    stem
        Path of the files without suffix.

    Returns
    -------
    list of Path
        The PNG and the SVG file.
    """
    plt = pyplot()
    count = max(1, len(curves))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            count, 2, figsize=(9.4, 3.3 * count), layout="constrained", squeeze=False
        )
        for (left, right), (kind, found) in zip(axes, curves.items(), strict=False):
            points = [row for row in rows if row.kind == kind]
            _curve(left, points, found, [fits[row.case] for row in points])
            left.set(title=f"{kind}: seconds per round")
            names = [f"{one.client_ranks:,}" for one in found]
            parts = {
                name: [one.phases[name] / one.seconds for one in found]
                for name in PHASES
            }
            stack(right, names, parts)
            right.tick_params(axis="x", rotation=60, labelsize=8)
            right.set(title="share of each phase", xlabel="client ranks", ylim=(0, 1))
        handles, labels = axes.flat[1].get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="outside right center")
        return save(figure, stem)


def _curve(
    ax: Any, rows: Sequence[Row], found: Sequence[Prediction], fits: Sequence[float]
) -> None:
    measured = [row.client_ranks for row in rows]
    places = [one.client_ranks for one in found]
    lows, highs = [one.low for one in found], [one.high for one in found]
    ax.fill_between(places, lows, highs, color=COLORS[0], alpha=0.2)
    ax.plot(
        places,
        [one.seconds for one in found],
        color=COLORS[0],
        label="model, one core per rank",
    )
    ax.plot(
        measured,
        [row.seconds.mean for row in rows],
        color=COLORS[1],
        marker="o",
        linestyle="none",
        label="measured",
    )
    marks = {"marker": "x", "linestyle": "none", "color": COLORS[6], "zorder": 3}
    ax.plot(measured, fits, label="model, cores as measured", **marks)
    ax.set(xscale="log", yscale="log", xlabel="client ranks")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_formatter("{x:g}" if high < 5 * low else "")
    ax.legend(fontsize=8)


def stack(
    ax: Any, names: Sequence[str], parts: dict[str, list[float]], labelled: bool = True
) -> None:
    """Draw stacked bars."""
    ax.set_axisbelow(True)
    base = [0.0] * len(names)
    for colour, (name, values) in zip(COLORS, parts.items(), strict=False):
        label = name if labelled else None
        ax.bar(names, values, bottom=base, label=label, color=colour)
        base = [low + value for low, value in zip(base, values, strict=True)]


def rank_axis(ax: Any, ranks: Sequence[int]) -> None:
    """Give the horizontal axis a logarithmic scale of client ranks."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(ranks, [f"{p:,}" for p in ranks])
    ax.minorticks_off()
    ax.set_xlabel("client ranks")


def _line(
    ax: Any, places: Sequence[int], bands: Sequence[Band], colour: str, label: str
) -> None:
    means = [band.mean for band in bands]
    ax.plot(places, means, color=colour, marker="o", markersize=4, label=label)
    known = [
        (x, band) for x, band in zip(places, bands, strict=True) if band.low == band.low
    ]
    if known:
        lows, highs = [b.low for _, b in known], [b.high for _, b in known]
        ax.fill_between([x for x, _ in known], lows, highs, color=colour, alpha=0.2)
