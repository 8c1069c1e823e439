"""What a run records of consensus, against what its checkpoints hold."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import dry_run
from tests.support.data.recorded import (
    BALANCED,
    EVERYTHING,
    JOINT,
    OWN_UNIT,
    SIZES,
    Looked,
    go,
    ids,
    penalties,
    residuals_of,
)
from tests.support.processes.cli_runs import (
    FEDAPM,
    FEDSIM,
    digest_of,
    experiment,
    rounds_of,
)


@pytest.fixture(scope="module")
def features(toy):
    return toy["features"]


@pytest.fixture(scope="module")
def plain(features, tmp_path_factory):
    """Return a run with all diagnostics, and what its checkpoints hold."""
    run = tmp_path_factory.mktemp("plain") / "run"
    go(run, features, diagnostics=EVERYTHING)
    return run, Looked(run, features)


@pytest.fixture(scope="module")
def balanced(features, tmp_path_factory):
    run = tmp_path_factory.mktemp("balanced") / "run"
    changes = {"algorithm": BALANCED, "rounds": 9}
    go(run, features, diagnostics=EVERYTHING, **changes)
    return run, Looked(run, features, **changes)


@pytest.fixture(scope="module")
def own_unit(features, tmp_path_factory):
    """The same in units of a client's own loss, for clients of uneven weight."""
    run = tmp_path_factory.mktemp("own-unit") / "run"
    changes = {"algorithm": OWN_UNIT, "client_weights": "samples", "rounds": 9}
    go(run, features, diagnostics=EVERYTHING, **changes)
    looked = Looked(run, features, **changes)
    assert looked.counted.max() > 1.3 * looked.counted.min()
    used = {record["rho"] for record in rounds_of(run) if record["round"]}
    assert len(used) > 1
    return run, looked


@pytest.fixture(params=["plain", "balanced", "own_unit"])
def looked(request):
    return request.getfixturevalue(request.param)


# Residuals -------------------------------------------------------------------------


def test_residuals_of_every_round_are_those_of_its_checkpoint(looked):
    run, states = looked
    records = [record for record in rounds_of(run) if record["round"]]
    assert len(records) >= 5
    for t, record in enumerate(records, start=1):
        assert record["round"] == t
        own = penalties(states, t, records)
        primal, dual, scale_primal, scale_dual = residuals_of(states, t, own)
        assert record["primal_residual"] == pytest.approx(primal, rel=1e-10)
        assert record["dual_residual"] == pytest.approx(dual, rel=1e-10)
        relative = record["primal_relative"], record["dual_relative"]
        expected = primal / scale_primal, dual / scale_dual
        assert relative == pytest.approx(expected, rel=1e-10)
        assert primal > 1e-3


def test_the_dual_residual_of_one_penalty_is_rho_root_m_times_the_change(plain):
    run, states = plain
    for t, record in enumerate(rounds_of(run)[1:], start=1):
        change = (states.server(t) - states.server(t - 1)).norm()
        expected = FEDAPM["rho"] * math.sqrt(states.m) * float(change)
        assert record["dual_residual"] == pytest.approx(expected, rel=1e-12)


def test_at_the_start_all_agree(plain):
    first = rounds_of(plain[0])[0]
    assert first["round"] == first["primal_residual"] == first["primal_relative"] == 0


def test_blocks_are_the_parameters_and_their_squares_add_up(looked):
    run, states = looked
    records = [record for record in rounds_of(run) if record["round"]]
    for t, record in enumerate(records, start=1):
        blocks, begin = record["blocks"], 0
        assert list(blocks) == list(SIZES)
        for name, of in (("primal", "primal_residual"), ("dual", "dual_residual")):
            whole = math.sqrt(sum(block[name] ** 2 for block in blocks.values()))
            assert whole == pytest.approx(record[of], rel=1e-12)
        own = penalties(states, t, records)
        for name, size in SIZES.items():
            cut = slice(begin, begin + size)
            begin += size
            primal, dual, scale_primal, scale_dual = residuals_of(states, t, own, cut)
            assert blocks[name] == {
                "primal": pytest.approx(primal, rel=1e-10),
                "primal_relative": pytest.approx(primal / scale_primal, rel=1e-10),
                "dual": pytest.approx(dual, rel=1e-10),
                "dual_relative": pytest.approx(dual / scale_dual, rel=1e-10),
            }


def test_in_single_precision_u_is_what_clients_were_sent(features, tmp_path):
    run = go(tmp_path / "run", features, dtype="float32")
    states = Looked(run, features, dtype="float32")
    for t, record in enumerate(rounds_of(run)[1:], start=1):
        gap = states.clients(t, "shared") - states.server(t).float().double()
        assert record["primal_residual"] == pytest.approx(float(gap.norm()), rel=1e-12)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedsim"])
def test_methods_without_duals_have_primal_residuals_alone(
    features, tmp_path, algorithm
):
    changes = {"algorithm": {"name": algorithm} | FEDSIM}
    if algorithm == "fedavg":
        changes["split"] = None
    run = go(tmp_path / "run", features, diagnostics={"blocks": True}, **changes)
    for record in rounds_of(run)[1:]:
        assert record["primal_residual"] > 0
        assert record["dual_residual"] is record["rho"] is None
        assert "dual_relative" not in record
        for block in record["blocks"].values():
            assert set(block) == {"primal", "primal_relative"}


def test_residuals_every_few_rounds_and_in_the_last(features, tmp_path):
    run = go(tmp_path / "run", features, diagnostics={"every": 3})
    found = {r["round"]: "primal_residual" in r for r in rounds_of(run)}
    assert [t for t, there in found.items() if there] == [0, 3, 5]


# Sum of duals and augmented Lagrangian ---------------------------------------------


def test_sum_of_duals_is_that_of_the_clients(looked, request):
    """Each by its weight, if it is of the client's own loss."""
    run, states = looked
    for t, record in enumerate(rounds_of(run)[1:], start=1):
        dual = states.clients(t, "dual")
        if states is request.getfixturevalue("own_unit")[1]:
            dual = states.alpha[:, None] * dual
        total = float(dual.sum(0).norm())
        assert record["dual_sum"] == pytest.approx(total, rel=1e-9)


def test_sum_of_duals_balances_the_gaps(plain):
    """sum pi_i = -rho sum (u_i - u), by how u is made."""
    run, states = plain
    for t, record in enumerate(rounds_of(run)[1:], start=1):
        gaps = states.clients(t, "shared") - states.server(t)
        expected = FEDAPM["rho"] * float(gaps.sum(0).norm())
        assert record["dual_sum"] == pytest.approx(expected, rel=1e-9)


def client_loss(session, client, u, v):
    """Return a client's mean training loss, by a network built here."""
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    vector = torch.cat([u, v])
    nn.utils.vector_to_parameters(vector, network.parameters())
    samples = session.samples(client, "train")
    (inputs,) = samples.inputs
    with torch.no_grad():
        return float(nn.functional.cross_entropy(network(inputs), samples.targets))


@pytest.mark.parametrize("by_samples", [False, True])
@pytest.mark.parametrize(
    "kind", ["plain", "decay", "xi", "balance", "xi, own unit", "own unit"]
)
def test_lagrangian_is_that_of_the_shards_and_the_states(
    features, tmp_path, kind, by_samples
):
    """At the evaluated rounds; with a tolerance, Lyapunov's function as well."""
    mu, xi = 0.02, {"xi": 0.05, "decay": 0.5, "max_epochs": 3}
    algorithm = {
        "plain": FEDAPM,
        "decay": FEDAPM | {"weight_decay": mu},
        "xi": FEDAPM | {"shared_work": xi},
        "balance": BALANCED,
        "xi, own unit": FEDAPM | {"shared_work": xi, "units": "client"},
        "own unit": OWN_UNIT,
    }[kind]
    own_unit = "own unit" in kind
    changes = {
        "algorithm": algorithm,
        "client_weights": "samples" if by_samples else "uniform",
        "diagnostics": {"lagrangian": True},
    }
    run = go(tmp_path / "run", features, **changes)
    states = Looked(run, features, **changes)
    session = open_context(
        validate(experiment(features, dtype="float64", **changes), "test"), Serial()
    )
    records = [record for record in rounds_of(run) if record["round"]]
    counts = np.array(session.federation.manifest.counts["train"], dtype=float)
    alpha = counts / counts.sum() if by_samples else np.full(states.m, 1 / states.m)
    for t in (2, 4, 5):
        u, own = states.server(t), penalties(states, t, records)
        pieces = [states.clients(t, k) for k in ("shared", "personal", "dual")]
        total = 0.0
        for i, (u_i, v_i, pi_i) in enumerate(zip(*pieces, strict=True)):
            fit = client_loss(session, i, u_i, v_i)
            if kind == "decay":
                fit += mu / 2 * float((u_i**2).sum() + (v_i**2).sum())
            gap = u_i - u
            pull = float(pi_i @ gap) + float(own[i]) / 2 * float(gap @ gap)
            total += alpha[i] * fit + (alpha[i] if own_unit else 1) * pull
        extra = 0.0
        if "xi" in kind:
            taken = np.zeros(states.m)
            for record in records[:t]:
                taken[ids(record["participants"])] += 1
            allowed = 0.05 * 0.5**taken * (alpha if own_unit else 1)
            extra = float(29 * allowed.sum() / (FEDAPM["rho"] * 0.5))
        assert records[t - 1]["lagrangian"] == pytest.approx(total, rel=1e-10)
        assert records[t - 1]["lyapunov"] == pytest.approx(total + extra, rel=1e-10)
    evaluated = ["lagrangian" in record for record in rounds_of(run)]
    assert evaluated == [True, False, True, False, True, True]


@pytest.mark.parametrize("algorithm", [FEDAPM, BALANCED, JOINT, OWN_UNIT])
def test_looking_changes_no_bit(features, tmp_path, algorithm):
    runs = {
        name: go(
            tmp_path / name, features, algorithm=algorithm, diagnostics=diagnostics
        )
        for name, diagnostics in {
            "none": {"every": 99},
            "all": EVERYTHING,
            "blocks": {"blocks": True, "every": 2},
        }.items()
    }
    assert len({digest_of(run) for run in runs.values()}) == 1
    kept = ("participants", "rho", "dual_residual", "train_loss", "drift")
    first, *others = (
        [[record.get(key) for key in kept] for record in rounds_of(run)]
        for run in runs.values()
    )
    assert all(other == first for other in others)
    everything = rounds_of(runs["all"])[-1]
    assert {"blocks", "dual_sum", "lagrangian"} <= set(everything)
    assert "blocks" not in rounds_of(runs["none"])[-1]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("tolerance", {"tolerance": {"relative": 0.1}}),
        ("diagnostics.dual_sum", {"diagnostics": {"dual_sum": True}}),
        ("diagnostics.lagrangian", {"diagnostics": {"lagrangian": True}}),
    ],
)
def test_what_needs_duals_is_refused_without(features, key, changes):
    values = experiment(
        features, split=None, algorithm={"name": "fedavg"} | FEDSIM, **changes
    )
    with pytest.raises(ConfigError) as caught:
        open_context(validate(values, "test"), Serial())
    text = str(caught.value)
    assert text.startswith(f"{key} needs ")
    assert "fedavg" in text
    assert "\n" not in text


def test_many_clients_get_a_word_on_how_often_they_are_looked_at(features, monkeypatch):
    monkeypatch.setattr("fedapm_mpi.federation.federation.MANY_CLIENTS", 8)
    for every, reported in ((1, 1), (10, 0)):
        values = experiment(features, diagnostics={"every": every})
        warnings = open_context(validate(values, "test"), Serial()).warnings
        assert len([w for w in warnings if "diagnostics.every" in w]) == reported


@pytest.mark.parametrize("dual_sum", [False, True])
def test_a_dry_run_reports_the_bytes_that_a_run_sends(
    features, tmp_path, capsys, dual_sum
):
    changes = {"diagnostics": {"dual_sum": dual_sum}, "dtype": "float64"}
    sent = rounds_of(go(tmp_path, features, **changes))[-1]["bytes"]
    capsys.readouterr()
    dry_run(Serial(), validate(experiment(features, **changes), "test"))
    reported = f"broadcast {sent['broadcast']} B, sum {sent['reduce']} B"
    assert reported in " ".join(capsys.readouterr().out.split())
    assert sent["reduce"] == sent["broadcast"] * (1 + dual_sum)
