"""Fit a model to a study, and report it, its validation and its predictions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.studies.scaling.measurements import PHASES, Measurements, read_points
from fedapm_mpi.studies.scaling.model import Sample
from fedapm_mpi.studies.scaling.model_terms import OVERSUBSCRIPTION
from fedapm_mpi.studies.scaling.plots import draw_model
from fedapm_mpi.studies.scaling.points import open_study
from fedapm_mpi.studies.scaling.predict import (
    Ensemble,
    HeldOutPoint,
    Prediction,
    base_sample,
    crossover,
    ensemble,
    hold_out,
    largest_cases,
    predict_all,
    predict_curves,
    ranks_per_node,
)
from fedapm_mpi.studies.scaling.report import make_folder
from fedapm_mpi.studies.scaling.summary import rows_of
from fedapm_mpi.studies.scaling.tables import unfinished, write_csv
from fedapm_mpi.studies.scaling.workload import samples_of
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import echo, print_table
from fedapm_mpi.utils.text import format_value

log = get_logger(__name__)

LIMIT_NAMES = {"imbalance": "straggler"}
"""Names of phases that limit, where they differ from the phase's."""

COLUMNS = (
    "client_ranks", "clients", "participants", "seconds", "low", "high",
    *(f"{phase}_s" for phase in PHASES), "limit",
)  # fmt: skip
"""Of predictions.csv."""


def read_samples(root: Path) -> tuple[list[Measurements], list[Sample]]:
    """Read a study, and return what a model of it is fitted to.

    Raises
    ------
    DataError
        If fewer than two points are finished.
    """
    study, points = open_study(root)
    measured, missing = read_points(points, study.warmup_rounds)
    if missing:
        echo(unfinished(missing))
    if len({one.point.case for one in measured}) < 2:
        msg = f"{root}: a model needs at least two finished points; run more of them"
        raise DataError(msg)
    return measured, samples_of(measured)


def model(
    root: Path, ranks: Sequence[int], clients: Sequence[int], per_node: int | None
) -> int:
    """Fit and validate a model, predict, print and write the results.

    Parameters
    ----------
    root
        The study's directory.
    ranks
        Numbers of client ranks to predict.
    clients
        Numbers of clients to predict; if empty, see `predict_all`.
    per_node
        Ranks that share a node; `None` for the number in the largest point.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    FedAPMError
        If the study cannot be read, too little of it is finished, or SciPy or
        matplotlib is not installed.
    """
    measured, samples = read_samples(root)
    if any(one.oversubscription for one in measured):
        log.info(
            "some points had fewer cores than client ranks. Their cost is a "
            "separate term and is excluded from predictions for one core per rank; "
            "costs that grow with the number of ranks, P, are not identifiable then"
        )
    fitted = ensemble(samples)
    _report_terms(fitted)
    held_out = hold_out(samples, largest_cases(measured))
    _report_validation(held_out)
    per_node = per_node or ranks_per_node(samples)
    predictions = predict_all(fitted, samples, measured, ranks, clients, per_node)
    _report_predictions(predictions, per_node)
    _report_crossover(fitted, samples, max(ranks), per_node)
    folder = make_folder(root / "model")
    files = [folder / "model.json", folder / "predictions.csv"]
    text = json.dumps(_plain(fitted, held_out, per_node), indent=1)
    write_text(files[0], text + "\n")
    write_csv(files[1], COLUMNS, [_cells(one) for one in predictions])
    rows = rows_of(measured)
    curves = predict_curves(fitted, samples, rows, max(ranks), per_node)
    if curves:
        files += draw_model(rows, curves, fitted.fitted, folder / "model")
    echo(f"in {folder}: {', '.join(path.name for path in files)}")
    return 0


def _report_terms(fitted: Ensemble) -> None:
    rows = []
    for phase, part in fitted.model.parts.items():
        for term, value in part.coefficients.items():
            if value == 0:
                continue
            low, high = fitted.coefficient_interval(phase, term)
            rows.append((phase, term, *(f"{v:.3g}" for v in (value, low, high))))
    header = ("phase", "term", "seconds for one", "from", "to")
    print_table("Fitted coefficients, 95 % bootstrap intervals", header, rows)
    for phase, part in fitted.model.parts.items():
        terms = ", ".join(name for name in part.dropped if OVERSUBSCRIPTION not in name)
        if terms:
            echo(f"{phase}: {terms} not identifiable from this study; dropped")


def _report_validation(held_out: Sequence[HeldOutPoint]) -> None:
    if not held_out:
        echo("too few points for hold-out validation")
        return
    rows = [
        (
            one.case,
            f"{one.predicted:.4f}",
            f"{one.low:.4f} – {one.high:.4f}",
            f"{one.measured:.4f}",
            f"{100 * one.error:+.1f} %",
        )
        for one in held_out
    ]
    header = ("point", "predicted s/round", "95 %", "measured", "error")
    title = "Hold-out validation: predicted by a fit to the other points"
    print_table(title, header, rows)


def _report_predictions(found: Sequence[Prediction], per_node: int) -> None:
    header = ("client ranks", "clients", "participants", "s/round", "95 %", "limit")
    rows = [
        (
            f"{one.client_ranks:,}",
            f"{one.clients:,}",
            f"{one.participants:,.0f}",
            f"{one.seconds:.4g}",
            f"{one.low:.3g} – {one.high:.3g}",
            f"{_name(one.limit)} {one.phases[one.limit] / one.seconds:.0%}",
        )
        for one in found
    ]
    print_table(f"Predictions, {per_node} ranks per node", header, rows)


def _report_crossover(
    fitted: Ensemble, samples: Sequence[Sample], max_ranks: int, per_node: int
) -> None:
    base = base_sample(samples)
    found = crossover(
        fitted.model, base.scenario, base.participants, max_ranks, per_node
    )
    where = f"with {base.scenario.workload.clients:,} clients"
    if found is None:
        echo(f"{where}, work is most of a round up to {max_ranks:,} client ranks")
    else:
        ranks, leading = found
        echo(
            f"{where}, work is less than half of a round from {ranks:,} client ranks "
            f"on; the largest other phase is {_name(leading)}"
        )


def _name(phase: str) -> str:
    return LIMIT_NAMES.get(phase, phase)


def _cells(one: Prediction) -> list[Any]:
    phases = [one.phases[phase] for phase in PHASES]
    head = [one.client_ranks, one.clients, one.participants]
    return [*head, one.seconds, one.low, one.high, *phases, _name(one.limit)]


def _plain(
    fitted: Ensemble, held_out: Sequence[HeldOutPoint], per_node: int
) -> dict[str, Any]:
    return {
        "seconds": {
            phase: {"coefficients": part.coefficients, "dropped": part.dropped}
            for phase, part in fitted.model.parts.items()
        },
        "measured_over_fitted": [
            float(fitted.residual_ratios.min()),
            float(fitted.residual_ratios.max()),
        ],
        "held_out": [{**one._asdict(), "error": one.error} for one in held_out],
        "ranks_per_node": per_node,
    }


def as_numbers(text: str, what: str) -> list[int]:
    """Parse whole numbers above 0, separated by commas.

    Raises
    ------
    ConfigError
        If the text is anything else.
    """
    try:
        found = [int(float(part)) for part in text.split(",")]
    except (ValueError, OverflowError):
        found = []
    if not found or min(found) < 1:
        msg = (
            f"{what} must be numbers above 0 such as 100,1000, not {format_value(text)}"
        )
        raise ConfigError(msg)
    return found
