"""The same bits at any number of ranks, wherever clients live."""

import json

import numpy as np
import pytest

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.analysis.client_model import recompute_digest
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import placements
from tests.support.experiments import NAMES, SAME, experiments
from tests.support.processes.cli_runs import (
    assert_same_run,
    digest_of,
    rounds_of,
    train,
    train_many,
    write_config,
)

pytestmark = pytest.mark.slow

RANKS = (2, 3, 5, 8)
EVERYWHERE = (
    *SAME,
    "dropout",
    "ragged",
    "criterion",
    "buffers-mean",
    "regression",
    "no-participant",
    "balance",
    "tolerance",
    "groups",
    "units-fedadmm-participants",
    "scaffold",
    "solver-keep",
    "stacked",
    "stacked-groups",
)
"""Experiments on all of RANKS: those that say most about where a client lives."""


def _places() -> dict[int, tuple[str, ...]]:
    """Return the experiments to run by the number of ranks.

    All are run on 1 and 3 ranks, and each on one more number at least.
    """
    others = [name for name in NAMES if name not in EVERYWHERE]
    turns = {ranks: others[i::3] for i, ranks in enumerate((2, 5, 8))}
    return {1: NAMES, 3: NAMES} | {
        ranks: (*EVERYWHERE, *turn) for ranks, turn in turns.items()
    }


PLACES = _places()
PAIRS = [(name, ranks) for ranks in RANKS for name in PLACES[ranks]]


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Return a function from a number of ranks to the folder of all runs on them."""
    root = tmp_path_factory.mktemp("same-bits")
    configs = {
        name: write_config(root / f"{name}.yaml", config)
        for name, config in experiments(toy).items()
    }
    finished = {}

    def on(ranks):
        if ranks not in finished:
            folder = root / str(ranks)
            done = train_many(
                ranks,
                {
                    name: ["train", path, "--run-dir", folder / name]
                    for name, path in configs.items()
                    if name in PLACES[ranks]
                },
                folder / "output",
            )
            for name, one in done.items():
                assert one.codes == [0] * ranks, f"{name}: {one}"
            finished[ranks] = folder
        return finished[ranks]

    return on


@pytest.mark.parametrize(("name", "ranks"), PAIRS)
def test_any_number_of_ranks(runs, name, ranks):
    assert_same_run(runs(ranks) / name, runs(1) / name)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", SAME[1:])
def test_any_placement(runs, name, ranks):
    assert_same_run(runs(ranks) / name, runs(ranks) / SAME[0])


def test_placements_did_differ(runs):
    """The control: clients did live elsewhere."""
    places = set()
    for name in SAME:
        path = runs(5) / name / "provenance.json"
        saved = json.loads(path.read_text())
        places.add(tuple(saved["clients_per_rank"]))
        assert saved["processor"]
        assert saved["processor_model"]
    assert (0, 0, 0, 0, 8) in places
    assert len(places) >= 2


@pytest.mark.parametrize("ranks", RANKS[1:])  # a host alone has none to share with
def test_ranks_of_one_machine_are_on_one_node(runs, ranks):
    saved = json.loads((runs(ranks) / "plain" / "provenance.json").read_text())
    assert saved["nodes_that_share"] == [-1] + [0] * (ranks - 1)


def test_other_experiments_have_other_digests(runs):
    """The control: a digest does tell two runs apart."""
    digests = [digest_of(runs(1) / name) for name in NAMES if name not in SAME[1:]]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", NAMES)
def test_the_digest_is_that_of_the_state_in_final(runs, name, monkeypatch):
    from tests.support import PLUGINS

    monkeypatch.syspath_prepend(PLUGINS)
    run = runs(3) / name
    assert recompute_digest(run) == digest_of(run)


def test_training_did_something(runs):
    for name in set(NAMES) - {"no-participant", "only-the-empty"}:
        first, *_, last = [r for r in rounds_of(runs(1) / name) if "loss" in r]
        assert last["loss"] != first["loss"], name


def test_runs_by_the_command_line_alone(runs, toy, tmp_path):
    """Each run above shared its processes with others; this one does not."""
    config = write_config(tmp_path / "plain.yaml", experiments(toy)["plain"])
    ended = train(3, config, "--run-dir", tmp_path / "run")
    assert ended.returncode == 0, ended
    assert_same_run(tmp_path / "run", runs(1) / "plain")
    assert ended.stdout.splitlines()[-1] == f"digest {digest_of(tmp_path / 'run')}"


def test_only_rank_0_talks(runs):
    output = runs(5) / "output"
    for name in PLACES[5]:
        for rank in range(5):
            texts = [
                (output / f"{name}.{kind}.{rank}").read_text()
                for kind in ("stdout", "stderr")
            ]
            assert bool(texts[0]) == (rank == 0)
            assert texts[1] == ""


def test_more_ranks_than_clients_are_idle_and_reported(runs):
    printed = (runs(8) / "output" / "dropout.stdout.0").read_text()
    assert "note: 7 ranks host clients but there are 6: 1 idle" in printed


def test_empty_and_constant_clients(runs):
    """Client 2 has one label, 3 nothing to test on, and 4 nothing to train on."""
    run = runs(3) / "criterion"
    printed = (runs(3) / "output" / "criterion.stdout.0").read_text()
    assert "1 of 8 clients have no train samples: they take no local step" in printed
    assert "1 of 8 clients have no test samples: they are left out" in printed
    header, *rows = (run / "clients.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    assert [row["train_samples"] for row in table][4] == "0"
    assert table[3]["test_samples"] == "0"
    assert table[3]["accuracy"] == table[3]["loss"] == ""
    assert table[2]["auroc"] == ""
    assert float(table[2]["auroc_absent_zero"]) == 0
    assert float(table[2]["accuracy"]) >= 0
    tested = [float(row["accuracy"]) for row in table if row["accuracy"]]
    last = rounds_of(run)[-1]
    assert len(tested) == 7
    assert last["accuracy"] == pytest.approx(np.mean(tested))


@pytest.mark.parametrize("name", ["no-participant", "only-the-empty"])
def test_rounds_without_a_step_change_no_model(runs, name):
    first, *_, last = [r for r in rounds_of(runs(3) / name) if "loss" in r]
    assert last["loss"] == first["loss"]
    assert last["train_loss"] is None
    assert last["num_participants"] == (name != "no-participant")


def test_penalties_did_change_and_a_run_ended_early(runs):
    """The control: these experiments do what they are there for."""
    used = {
        name: [r["rho"] for r in rounds_of(runs(1) / name)[1:]]
        for name in ("balance", "balance-down")
    }
    assert used["balance"][-1] > 4 * used["balance"][0]
    assert used["balance-down"][-1] < used["balance-down"][0] / 2
    ended = rounds_of(runs(1) / "tolerance")
    assert ended[-1]["converged"] is True
    assert 3 < len(ended) < 20


def test_every_part_is_among_the_experiments(toy):
    used = {key: set() for key in ("algorithm", "participation", "placement")}
    for config in experiments(toy).values():
        for key, names in used.items():
            part = config.get(key, "cost")
            names.add(part if isinstance(part, str) else part["name"])
    assert used["algorithm"] >= set(algorithms.names())
    assert used["participation"] >= set(participation.names())
    assert used["placement"] >= set(placements.names())
