"""Fit a model to a study and foretell more ranks: what is said, and the files."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling import tables as telling
from fedapm_mpi.studies.scaling.measurements import PHASES, Measurements, read_points
from fedapm_mpi.studies.scaling.model import Sample
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.plots import draw_model
from fedapm_mpi.studies.scaling.points import open_study
from fedapm_mpi.studies.scaling.predict import (
    Ensemble,
    HeldOutPoint,
    Prediction,
    crossover,
    ensemble,
    hold_out,
    on_ranks,
)
from fedapm_mpi.studies.scaling.report import made
from fedapm_mpi.studies.scaling.schedule import Ints
from fedapm_mpi.studies.scaling.summary import Row, rows_of
from fedapm_mpi.studies.scaling.workload import samples_of
from fedapm_mpi.tracking.progress import echo, print_table
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.text import format_value

NAMES = {"imbalance": "straggler"}
"""What phases are called that limit."""

COLUMNS = (
    "client_ranks", "clients", "participants", "seconds", "low", "high",
    *(f"{phase}_s" for phase in PHASES), "limit",
)  # fmt: skip
"""Of predictions.csv."""


def fit_study(root: Path) -> tuple[list[Measurements], list[Sample]]:
    """Read a study and return what a model of it is fitted to.

    Raises
    ------
    DataError
        If too little is finished to fit anything to.
    """
    study, points = open_study(root)
    measured, missing = read_points(points, study.warmup_rounds)
    if missing:
        echo(telling.unfinished(missing))
    if len({one.point.case for one in measured}) < 2:
        msg = f"{root}: a model needs at least two finished points; run more of them"
        raise DataError(msg)
    return measured, samples_of(measured)


def model(
    root: Path, ranks: Sequence[int], clients: Sequence[int], per_node: int | None
) -> int:
    """Fit, validate, foretell; print it and write it; return the exit code."""
    measured, samples = fit_study(root)
    if any(one.crowd for one in measured):
        echo(
            "note: some points had fewer cores than client ranks. What that costs is "
            "told apart, and not foretold for machines with a core for each rank; what "
            "grows with the number of ranks, P, cannot be told from it"
        )
    fitted = ensemble(samples)
    _report_terms(fitted)
    held = hold_out(samples, largest(measured))
    _report_validation(held)
    per_node = per_node or ranks_per_node(samples)
    predictions = _predictions(fitted, samples, measured, ranks, clients, per_node)
    _report_predictions(predictions, per_node)
    _report_crossover(fitted, samples, max(ranks), per_node)
    folder = made(root / "model")
    files = [folder / "model.json", folder / "predictions.csv"]
    text = json.dumps(_plain(fitted, held, per_node), indent=1)
    write_text(files[0], text + "\n")
    telling.write_csv(files[1], COLUMNS, [_cells(one) for one in predictions])
    curves = _curves(fitted, samples, rows_of(measured), max(ranks), per_node)
    if curves:
        rows = rows_of(measured)
        files += draw_model(rows, curves, fitted.fitted, folder / "model")
    echo(f"in {folder}: {', '.join(path.name for path in files)}")
    return 0


def largest(measured: Sequence[Measurements]) -> list[str]:
    """Return the cases with most ranks, or bytes, of each study."""
    found = []
    for kind in telling.WAYS:
        own = [m for m in measured if m.point.kind == kind]
        if len({m.point.case for m in own}) > 1:
            key = max(own, key=lambda m: (m.point.client_ranks, m.broadcast_bytes))
            found.append(key.point.case)
    return found


def ranks_per_node(samples: Sequence[Sample]) -> int:
    """Return the ranks that share a node in the largest point."""
    nodes: list[int] = max((s.setting.nodes for s in samples), key=len)[1:].tolist()
    shared = max(nodes.count(node) for node in set(nodes))
    return shared + 1 if shared == len(nodes) else shared


def base_of(samples: Sequence[Sample]) -> Sample:
    """Return a sample of the unchanged experiment, with all its clients."""
    return max(
        samples,
        key=lambda s: (s.case.startswith("strong"), s.setting.workload.clients),
    )


def rounds_for(sample: Sample, setting: Scenario, rounds: int) -> list[Ints]:
    """Return the participants of some rounds, as many as are quickly drawn.

    They are those of the sample's rounds, where it has as many clients.
    """
    workload = setting.workload
    if workload.clients == sample.setting.workload.clients:
        return sample.participants[:rounds]
    first = workload.participants(0)
    count = draws.max_sampled_rounds(rounds, len(first))
    return [first, *(workload.participants(t) for t in range(1, count))]


def with_clients(setting: Scenario, count: int) -> Scenario:
    """Return the same experiment with another number of clients."""
    if count == setting.workload.clients:
        return setting
    return replace(setting, workload=setting.workload.with_clients(count))


def _predictions(
    fitted: Ensemble,
    samples: Sequence[Sample],
    measured: Sequence[Measurements],
    ranks: Sequence[int],
    clients: Sequence[int],
    per_node: int,
) -> list[Prediction]:
    sample = base_of(samples)
    base, found = sample.setting, []
    for count in clients or [base.workload.clients]:
        setting = with_clients(base, count)
        rounds = rounds_for(sample, setting, 20)
        found += [fitted.predict(on_ranks(setting, p, per_node), rounds) for p in ranks]
    each = {m.clients // m.hosts for m in measured if m.point.kind == "weak"}
    if not clients and each:
        for p in ranks:
            setting = with_clients(base, p * min(each))
            there = on_ranks(setting, p, per_node)
            found.append(fitted.predict(there, rounds_for(sample, setting, 20)))
    return found


def _curves(
    fitted: Ensemble,
    samples: Sequence[Sample],
    rows: Sequence[Row],
    most: int,
    per_node: int,
) -> dict[str, list[Prediction]]:
    """Return predictions of the strong and the weak study on numbers that double."""
    sample, curves = base_of(samples), {}
    base = sample.setting
    places = [2**k for k in range(most.bit_length()) if 2**k < most] + [most]
    for kind in ("strong", "weak"):
        own = [row for row in rows if row.kind == kind]
        found = []
        for p in places if own else []:
            each = own[0].clients // own[0].client_ranks
            setting = with_clients(base, p * each) if kind == "weak" else base
            there = on_ranks(setting, p, per_node)
            found.append(fitted.predict(there, rounds_for(sample, setting, 10)))
        if found:
            curves[kind] = found
    return curves


def _report_terms(fitted: Ensemble) -> None:
    rows = []
    for phase, part in fitted.model.parts.items():
        for term, value in part.coefficients.items():
            if value == 0:
                continue
            others = [m.parts[phase].coefficients.get(term, 0.0) for m in fitted.others]
            others.sort()
            low, high = others[len(others) // 40], others[-1 - len(others) // 40]
            rows.append((phase, term, *(f"{v:.3g}" for v in (value, low, high))))
    header = ("phase", "term", "seconds for one", "from", "to")
    print_table(
        "Fitted coefficients, and where 95 % of resampled ones lie", header, rows
    )
    for phase, part in fitted.model.parts.items():
        terms = ", ".join(name for name in part.dropped if "crowd" not in name)
        if terms:
            echo(f"{phase}: the study cannot tell what comes of {terms}; left out")


def _report_validation(held: Sequence[HeldOutPoint]) -> None:
    if not held:
        echo("too few points to leave the largest out and foretell it")
        return
    rows = [
        (
            h.case,
            f"{h.predicted:.4f}",
            f"{h.low:.4f} – {h.high:.4f}",
            f"{h.measured:.4f}",
            f"{100 * h.error:+.1f} %",
        )
        for h in held
    ]
    header = ("point", "predicted s/round", "95 %", "measured", "error")
    print_table("Foretold by a fit to all other points", header, rows)


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
    print_table(f"Foretold, {per_node} ranks a node", header, rows)


def _report_crossover(
    fitted: Ensemble, samples: Sequence[Sample], most: int, per_node: int
) -> None:
    sample = base_of(samples)
    base = sample.setting
    found = crossover(fitted.model, base, sample.participants, most, per_node)
    m = base.workload.clients
    if found is None:
        echo(f"with {m:,} clients, work is most of a round up to {most:,} client ranks")
    else:
        ranks, leading = found
        echo(
            f"with {m:,} clients, from {ranks:,} client ranks on less than half of a "
            f"round is work; first of the rest is {_name(leading)}"
        )


def _name(phase: str) -> str:
    return NAMES.get(phase, phase)


def _cells(one: Prediction) -> list[Any]:
    phases = [one.phases[phase] for phase in PHASES]
    head = [one.client_ranks, one.clients, one.participants]
    return [*head, one.seconds, one.low, one.high, *phases, _name(one.limit)]


def _plain(
    fitted: Ensemble, held: Sequence[HeldOutPoint], per_node: int
) -> dict[str, Any]:
    return {
        "seconds": {
            phase: {"coefficients": part.coefficients, "dropped": part.dropped}
            for phase, part in fitted.model.parts.items()
        },
        "measured_over_fitted": [
            float(fitted.misfits.min()),
            float(fitted.misfits.max()),
        ],
        "held_out": [{**one._asdict(), "error": one.error} for one in held],
        "ranks_per_node": per_node,
    }


def as_numbers(text: str, what: str) -> list[int]:
    """Return whole numbers above 0 that a user has written with commas.

    Raises
    ------
    ConfigError
        If it is anything else.
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
