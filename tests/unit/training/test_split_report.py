"""Costs of splits, and rows of a search's table."""

import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.federation.split_candidates import split_candidates
from fedapm_mpi.optim.layer_test import LayerTest
from fedapm_mpi.training import split_search
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.split_report import (
    COLUMNS,
    Cost,
    as_yaml,
    print_choice,
    split_costs,
    write_choice,
)
from fedapm_mpi.training.split_search import SplitChoice, split_of
from tests.support.processes.cli_runs import experiment


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def candidates(context):
    found = split_candidates([g.model.module for g in context.groups.members])
    return {one.name: one for one in found}


@pytest.mark.parametrize("personal", [["head.*"], [], ["*"]])
def test_bytes_are_those_of_a_run_with_the_split(toy, personal):
    """Whatever the split of the run that they are computed in."""
    context = opened(toy["features"], split={"personal": personal})
    known = candidates(context)
    costs = split_costs(context, list(known.values()))
    for name, one in known.items():
        run = opened(toy["features"], split={"personal": list(one.personal)})
        layout = run.payload
        assert costs[name].shared == layout.shared_length
        assert costs[name].sent == 4 * layout.down_length + 8 * layout.up_length
        assert costs[name].personal == len(run.groups.members[0].model.personal)


def test_averaged_duals_are_sent_as_well(toy):
    context = opened(toy["features"], diagnostics={"dual_sum": True})
    (cost,) = split_costs(context, [candidates(context)["biases"]]).values()
    assert cost == Cost(personal=11, shared=72, sent=72 * (4 + 8 + 8))


def choice(context):
    known = candidates(context)
    tests = {"body.0.weight": LayerTest(48, 8, 2.5, 40.0)}
    tested = [
        split_search.TestedCandidate(known["biases"], tests, suffices=False),
        split_search.TestedCandidate(known["head"], {}, suffices=False, val=0.75),
        split_search.TestedCandidate(known["all"], {}, suffices=True),
    ]
    return SplitChoice(known["all"], tested)


def test_rows_have_all_columns_and_empty_layers(toy, tmp_path):
    context = opened(toy["features"])
    found = choice(context)
    costs = split_costs(context, [one.candidate for one in found.tested])
    asked = experiment(toy["features"], split={"auto": {"threshold": 2.25}})
    write_choice(tmp_path, validate(asked, "test"), found, costs)
    lines = (tmp_path / "candidates.csv").read_text().splitlines()
    assert lines[0].split(",") == list(COLUMNS)
    cells = [line.split(",") for line in lines[1:]]
    assert cells[0][:2] + cells[0][5:10] == [
        "biases", "11", "0", "0", "body.0.weight", "48", "8",
    ]  # fmt: skip
    assert [float(cell) for cell in cells[0][10:]] == pytest.approx(
        [2.5, LayerTest(48, 8, 2.5, 40.0).p_value, 2.25]
    )
    assert cells[1][4] == "0.75"
    assert cells[2][5:] == ["1", "1", *[""] * 6]


def test_a_candidate_that_was_not_tested_says_nothing(toy, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    context = opened(toy["features"])
    found = choice(context)
    print_choice(found, split_costs(context, [one.candidate for one in found.tested]))
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[5:-1]]
        for line in capsys.readouterr().out.splitlines()
        if len(cells := line.split("│")) > 3
    }
    assert rows["biases"] == ["2.5000", "body.0.weight", "no", "–", ""]
    assert rows["head"] == ["–", "", "", "0.7500", ""]
    assert rows["all"] == ["–", "", "yes", "–", "chosen"]


def test_the_line_to_copy(toy):
    one = candidates(opened(toy["features"]))["head"]
    assert as_yaml(split_of(one)) == 'split: {"personal": ["head.weight", "head.bias"]}'
