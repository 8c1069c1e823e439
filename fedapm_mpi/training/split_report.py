"""Tables and files of the splits that a model offers, and of a search among them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.split_options import Split, search_options
from fedapm_mpi.engine.buffers import count_reals
from fedapm_mpi.engine.partitioned_model import trainable
from fedapm_mpi.federation.split_candidates import SplitCandidate
from fedapm_mpi.optim.layer_test import Threshold
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.split_choice import plain_choice
from fedapm_mpi.training.split_record import CHOICE
from fedapm_mpi.training.split_search import SplitChoice, TestedCandidate
from fedapm_mpi.utils.atomic_io import write_csv, write_error, write_text
from fedapm_mpi.utils.terminal import echo, print_table
from fedapm_mpi.utils.text import shorten

COLUMNS = (
    *("candidate", "personal", "shared", "bytes", "val", "suffices", "chosen"),
    *("layer", "parameters", "clients", "lm", "p_value", "threshold"),
)
"""Of ``candidates.csv``: one row for each candidate and layer that it leaves shared."""


_BYTES = " (bytes: down and up, each round and client)"


class Cost(NamedTuple):
    """What a split keeps, and what it sends."""

    personal: int
    """Numbers of the largest personal block."""

    shared: int
    """Numbers that the server holds."""

    sent: int
    """Bytes of a round's broadcast and of a client's update."""


def split_costs(
    context: TrainingContext, candidates: Sequence[SplitCandidate]
) -> dict[str, Cost]:
    """Return the cost of each candidate by its name.

    Parameters
    ----------
    context
        The parts of a run with any of these splits.
    candidates
        All of the same models.
    """
    sizes = {
        name: count_reals(parameter)
        for group in context.groups.members
        for name, parameter in trainable(group.model.module)
    }
    found = {}
    for one in candidates:
        shared = sum(n for name, n in sizes.items() if name not in one.personal)
        layout = replace(context.payload, shared_length=shared)
        down = layout.down_length * context.dtype.itemsize
        up = layout.up_length * context.aggregator.bytes_per_element
        found[one.name] = Cost(one.size, shared, down + up)
    return found


def print_candidates(
    candidates: Sequence[SplitCandidate], costs: Mapping[str, Cost]
) -> None:
    """Print the candidates, with the names of what each keeps."""
    rows = [(*_cells(one, costs), _some(one.personal)) for one in candidates]
    header = ("candidate", "personal", "shared", "bytes", "personal parameters")
    print_table(f"Splits that the model offers{_BYTES}", header, rows)


def print_choice(choice: SplitChoice, costs: Mapping[str, Cost]) -> None:
    """Print the candidates that were tested, and the chosen split."""
    validated = any(one.val is not None for one in choice.tested)
    rows = []
    for one in choice.tested:
        layer, largest = one.worst or ("", None)
        cells = [*_cells(one.candidate, costs), largest, layer]
        cells += (
            ["yes" if one.suffices else "no"] if one.tests or one.suffices else [""]
        )
        cells += [one.val] if validated else []
        chosen = one.candidate == choice.chosen
        rows.append([*cells, "chosen" if chosen else ""])
    header = ["candidate", "personal", "shared", "bytes", "largest LM", "in the layer"]
    header += ["suffices", *(["validation"] if validated else []), ""]
    print_table(f"Multiplier test of what stays shared{_BYTES}", header, rows)
    _print_chosen(choice)


def print_scores(choice: SplitChoice, rule: str) -> None:
    """Print what a rule other than the multiplier test scored, and the chosen split."""
    rows = [(name, f"{score:.3g}") for name, score in choice.scores.items()]
    print_table(f"Scores of the rule {rule}", ("parameter or layer", "score"), rows)
    _print_chosen(choice)


def _print_chosen(choice: SplitChoice) -> None:
    echo(f"chosen: {choice.chosen.name}; to train with it:")
    echo(f"  {as_yaml(choice.split)}")


def as_yaml(split: Split) -> str:
    """Return the line of a configuration that gives a chosen split."""
    return f"split: {json.dumps({'personal': split.personal})}"


def write_choice(
    directory: Path, config: Config, choice: SplitChoice, costs: Mapping[str, Cost]
) -> list[Path]:
    """Write the record of the choice and what was tested; return the files.

    Raises
    ------
    WriteError
        If they cannot be written.
    """
    threshold = search_options(config.split).test_threshold()
    table, whole = directory / "candidates.csv", directory / CHOICE
    rows = [
        row
        for one in choice.tested
        for row in _rows(one, one.candidate == choice.chosen, costs, threshold)
    ]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(directory, error) from error
    write_text(whole, json.dumps(plain_choice(config, choice), indent=2) + "\n")
    if not choice.tested:
        return [whole]
    write_csv(table, COLUMNS, rows)
    return [table, whole]


def _some(names: Sequence[str]) -> str:
    shown = [shorten(name, 30) for name in names[:2]]
    more = [f"… ({len(names) - 2} more)"] if len(names) > 2 else []
    return ", ".join([*shown, *more])


def _cells(one: SplitCandidate, costs: Mapping[str, Cost]) -> list[object]:
    cost = costs[one.name]
    return [one.name, cost.personal, cost.shared, cost.sent]


def _rows(
    one: TestedCandidate, chosen: bool, costs: Mapping[str, Cost], threshold: Threshold
) -> list[list[object]]:
    """Return the rows of a candidate; one without layers if it leaves none shared."""
    start = [*_cells(one.candidate, costs), one.val, int(one.suffices), int(chosen)]
    if not one.tests:
        return [[*start, *[None] * 6]]
    return [
        [*start, name, t.size, t.clients, t.lm, t.p_value, threshold.of(t)]
        for name, t in one.tests.items()
    ]
