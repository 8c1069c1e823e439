"""Clients with different models: who shares what, and means over those who hold it.

Runs in this process. What the server should have comes from the states that clients
saved, summed by name over those that have it.
"""

import csv

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedapm_mpi.analysis.client_model import load_client_model, recompute_digest
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.data.recorded import ids
from tests.support.mixed_groups import GROUPS, MIXED
from tests.support.processes.cli_runs import (
    FEDAPM,
    FEDSIM,
    digest_of,
    experiment,
    rounds_of,
)

HOLDERS = {
    "side_x": [1, 2, 3, 4, 7],
    "side_y": [0, 1, 2, 4, 5, 6, 7],
    "head": [0, 1, 2, 3, 4, 5, 6, 7],
}
SHARING_ALL = MIXED | {
    "split": None,
    "groups": [
        group | {"model": {"sides": group["model"]["sides"]}} for group in GROUPS
    ],
}
BALANCED = FEDAPM | {"rho": 1e-3, "residual_balancing": {"ratio": 1.5}}
PARTICIPANTS = FEDAPM | {"server_average": "participants", "dual_step": 0.5}
SCAFFOLD = {"name": "scaffold", "lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}
FEDDYN = SCAFFOLD | {"name": "feddyn", "penalty": 0.3}
CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def go(path, data, resume=False, stop=None, **changes):
    """Run an experiment with groups and return its directory."""
    config = validate(experiment(data, **MIXED | changes), "test")
    code = train(
        Serial(), config, directory=path, resume=resume, progress="none", stop=stop
    )
    assert code == (75 if stop else 0)
    return path


class Saved:
    """A run's checkpoints, its vectors cut by name."""

    def __init__(self, run):
        self.run = run
        rows = csv.DictReader((run / "split.csv").read_text().splitlines())
        personal = {row["name"] for row in rows if row["block"] == "personal"}
        self.shapes = []
        for i in range(8):
            named = load_client_model(run, i).named_parameters()
            own = {name: x.shape for name, x in named if name not in personal}
            self.shapes.append(own)
        # The first group's in its order, then what it has not.
        order = dict.fromkeys(n for i in (1, 0, 3, 4) for n in self.shapes[i])
        every = {name: s for own in self.shapes for name, s in own.items()}
        self.everything = {name: every[name] for name in order}
        self.folders = [run / "checkpoints" / f"round-{t:06}" for t in range(1, 7)]
        self.records = rounds_of(run)

    def clients(self, t):
        """Return the states after that many rounds, of those who have taken part."""
        states = {}
        for path in self.folders[t - 1].glob("clients-*.safetensors"):
            for key, tensor in load_file(path).items():
                client, _, name = key.partition("/")
                states.setdefault(int(client), {})[name] = tensor
        vectors = ("shared", "dual", "control", "gradient")
        return {
            i: {
                name: cut(x, self.shapes[i]) if name in vectors else x
                for name, x in state.items()
            }
            for i, state in states.items()
        }

    def server(self, t, row=0):
        path = self.folders[t - 1] / "server.safetensors"
        return cut(load_file(path)["rows"][row], self.everything)

    def participants(self, t):
        return ids(self.records[t]["participants"])


def cut(vector, shapes):
    found, start = {}, 0
    for name, shape in shapes.items():
        stop = start + shape.numel()
        found[name] = vector[start:stop].view(shape)
        start = stop
    assert start == len(vector)
    return found


def holders(name):
    return HOLDERS[name.partition(".")[0]] if "inlet" not in name else range(8)


def mean(values, weights):
    total = sum(w * x for w, x in zip(weights, values, strict=True))
    return total / sum(weights)


def alphas(data, kind):
    """Return the clients' weights: 1/8 each, or by samples."""
    config = validate(experiment(data, client_weights=kind), "test")
    trained = open_context(config, Serial()).federation.manifest.counts["train"]
    return trained / trained.sum() if kind == "samples" else np.full(8, 1 / 8)


def start_of(data, **changes):
    """Return the shared parameters that a run starts from."""
    config = validate(experiment(data, **MIXED | changes), "test")
    groups = open_context(config, Serial()).groups
    return groups.space.named(groups.initial_shared())


@pytest.mark.parametrize("own_unit", [False, True])
@pytest.mark.parametrize("algorithm", [FEDAPM, BALANCED])
def test_fedapm_is_the_mean_of_votes_over_all_who_hold_it(
    toy, tmp_path, algorithm, own_unit
):
    """Sum of (rho_i u_i + pi_i) over sum of rho_i, each name over its holders.

    In units of a client's own loss, every term has the client's weight.
    """
    changes, alpha = {"algorithm": algorithm}, np.ones(8)
    if own_unit:
        alpha = alphas(toy["features"], "samples")
        algorithm = algorithm | {"units": "client", "lr_shared": 0.1}
        changes = {"algorithm": algorithm, "client_weights": "samples"}
    saved = Saved(go(tmp_path / "run", toy["features"], **changes))
    start = start_of(toy["features"])
    rhos = set()
    for t in range(1, 7):
        clients, u = saved.clients(t), saved.server(t)
        for name in u:
            votes, penalties = [], []
            for i in holders(name):
                state = clients.get(i)
                rho = algorithm["rho"]
                if state and "rho" in state:
                    rho = float(state["rho"])
                own = state["shared"][name] if state else start[name]
                dual = state["dual"][name] if state else 0
                votes.append(own + dual / rho)
                penalties.append(alpha[i] * rho)
                rhos.add(rho)
            torch.testing.assert_close(u[name], mean(votes, penalties), **CLOSE)
    assert (len(rhos) > 1) == ("residual_balancing" in algorithm)


@pytest.mark.parametrize("average", ["all", "participants"])
@pytest.mark.parametrize("kind", ["uniform", "samples"])
def test_means_of_models_are_by_weight_over_holders(toy, tmp_path, average, kind):
    algorithm = FEDSIM | {"name": "fedsim", "server_average": average}
    run = go(
        tmp_path / "run", toy["features"], algorithm=algorithm, client_weights=kind
    )
    saved, alpha = Saved(run), alphas(toy["features"], kind)
    u = start = start_of(toy["features"])
    idle = 0
    for t in range(1, 7):
        clients, before, u = saved.clients(t), u, saved.server(t)
        for name in u:
            over = holders(name)
            if average == "participants":
                over = sorted(set(over) & set(saved.participants(t)))
            own = [
                clients[i]["shared"][name] if i in clients else start[name]
                for i in over
            ]
            if over:
                expected = mean(own, alpha[list(over)])
                torch.testing.assert_close(u[name], expected, **CLOSE)
            else:
                idle += 1
                assert torch.equal(u[name], before[name])
    assert (idle > 0) == (average == "participants"), "the control: a block sat out"


@pytest.mark.parametrize("algorithm", [SCAFFOLD, FEDDYN])
@pytest.mark.parametrize("kind", ["uniform", "samples"])
def test_drift_correction_is_by_weight_over_holders(toy, tmp_path, algorithm, kind):
    changes = SHARING_ALL | {"algorithm": algorithm, "client_weights": kind}
    saved = Saved(go(tmp_path / "run", toy["features"], **changes))
    alpha, u = alphas(toy["features"], kind), start_of(toy["features"], **changes)
    for t in range(1, 7):
        clients, before, u = saved.clients(t), u, saved.server(t)
        for name, memory in saved.server(t, row=1).items():
            over = list(holders(name))
            key = "control" if algorithm is SCAFFOLD else "gradient"
            seen = [i for i in over if i in clients]
            summed = sum(alpha[i] * clients[i][key][name] for i in seen)
            total = alpha[over].sum()
            scale = total if algorithm is SCAFFOLD else 1
            expected = summed / scale if seen else torch.zeros(memory.shape).double()
            torch.testing.assert_close(memory, expected, **CLOSE)
            here = sorted(set(over) & set(saved.participants(t)))
            if here:
                expected = mean([clients[i]["shared"][name] for i in here], alpha[here])
                if algorithm is FEDDYN:
                    expected = expected - memory / (algorithm["penalty"] * total)
                torch.testing.assert_close(u[name], expected, **CLOSE)
            else:
                assert torch.equal(u[name], before[name])


@pytest.mark.parametrize("units", ["weighted", "client"])
def test_participants_copies_and_all_duals(toy, tmp_path, units):
    """FedAPM's other server: copies of the round, duals of all, each over holders."""
    algorithm, alpha = PARTICIPANTS | {"units": units}, np.ones(8)
    changes = {"algorithm": algorithm, "client_weights": "samples"}
    if units == "client":
        alpha = alphas(toy["features"], "samples")
    saved = Saved(go(tmp_path / "run", toy["features"], **changes))
    u = start_of(toy["features"])
    for t in range(1, 7):
        clients, before, u = saved.clients(t), u, saved.server(t)
        for name in u:
            here = sorted(set(holders(name)) & set(saved.participants(t)))
            if not here:
                assert torch.equal(u[name], before[name])
                continue
            over = list(holders(name))
            seen = [i for i in over if i in clients]
            duals = sum(alpha[i] * clients[i]["dual"][name] for i in seen)
            pull = duals / (alpha[over].sum() * PARTICIPANTS["rho"])
            copies = [clients[i]["shared"][name] for i in here]
            expected = mean(copies, alpha[here]) + pull
            torch.testing.assert_close(u[name], expected, **CLOSE)


def test_groups_that_share_nothing_train_as_if_alone(toy, tmp_path):
    """Clients 0 to 3 hold x, 4 to 7 hold y: two federations in one run."""
    apart = {
        "model": {"name": "user_parts:towers", "sides": {"x": 3}},
        "split": {"shared": ["side_*"]},
        "groups": [{"clients": ["4-7"], "model": {"hidden": 4, "sides": {"y": 2}}}],
        "participation": "full",
        "algorithm": FEDAPM,
    }
    both = Saved(go(tmp_path / "both", toy["features"], **apart))
    # What x's clients do must not depend on y's model.
    other = apart | {
        "groups": [{"clients": ["4-7"], "model": {"hidden": 9, "sides": {"y": 8}}}]
    }
    again = Saved(go(tmp_path / "again", toy["features"], **other))
    for i in range(4):
        for key in ("shared", "dual"):
            for name, x in both.clients(6)[i][key].items():
                assert torch.equal(x, again.clients(6)[i][key][name])
    x = both.server(6)["side_x.weight"]
    assert torch.equal(x, again.server(6)["side_x.weight"])
    votes = [
        both.clients(6)[i]["shared"]["side_x.weight"]
        + both.clients(6)[i]["dual"]["side_x.weight"] / FEDAPM["rho"]
        for i in range(4)
    ]
    torch.testing.assert_close(x, sum(votes) / 4, **CLOSE)


def test_residuals_count_each_block_over_its_holders(toy, tmp_path):
    looking = {"blocks": True, "dual_sum": True, "lagrangian": True}
    run = go(tmp_path / "run", toy["features"], algorithm=FEDAPM, diagnostics=looking)
    saved, start = Saved(run), start_of(toy["features"])
    u = start
    for t in range(1, 7):
        clients, before, u = saved.clients(t), u, saved.server(t)
        sums = dict.fromkeys(("primal", "dual", "copies", "duals", "spread"), 0.0)
        dual_sum = 0.0
        for name in u:
            over = holders(name)
            own = [
                clients[i]["shared"][name] if i in clients else start[name]
                for i in over
            ]
            duals = [clients[i]["dual"][name] for i in over if i in clients]
            primal = sum(float(((x - u[name]) ** 2).sum()) for x in own)
            dual = len(over) * float(((u[name] - before[name]) ** 2).sum())
            dual *= FEDAPM["rho"] ** 2
            block = saved.records[t]["blocks"][name]
            assert block["primal"] == pytest.approx(primal**0.5, rel=1e-9)
            assert block["dual"] == pytest.approx(dual**0.5, rel=1e-9)
            sums["primal"] += primal
            sums["dual"] += dual
            sums["copies"] += sum(float((x**2).sum()) for x in own)
            sums["spread"] += len(over) * float((u[name] ** 2).sum())
            sums["duals"] += sum(float((x**2).sum()) for x in duals)
            dual_sum += float((sum(duals) ** 2).sum()) if duals else 0.0
        record = saved.records[t]
        scale = max(sums["copies"], sums["spread"])
        for key, expected in (
            ("primal_residual", sums["primal"] ** 0.5),
            ("dual_residual", sums["dual"] ** 0.5),
            ("primal_relative", (sums["primal"] / scale) ** 0.5),
            ("dual_relative", (sums["dual"] / sums["duals"]) ** 0.5),
            ("dual_sum", dual_sum**0.5),
        ):
            assert record[key] == pytest.approx(expected, rel=1e-9), key
    assert np.isfinite(saved.records[6]["lagrangian"])


def test_the_stop_rule_counts_the_entries_that_are_held(toy, tmp_path):
    """Between the tolerance with these entries and that with all of them."""
    quiet = {"algorithm": FEDAPM, "participation": "full", "rounds": 1}
    saved = Saved(go(tmp_path / "run", toy["features"], **quiet))
    record = saved.records[1]
    worst = max(record["primal_residual"], record["dual_residual"])
    entries = sum(x.numel() * len(holders(n)) for n, x in saved.server(1).items())
    for factor, ends in ((1 + 1e-6, True), (1 - 1e-6, False)):
        rule = {"absolute": factor * worst / entries**0.5}
        run = go(
            tmp_path / f"ends-{ends}",
            toy["features"],
            **quiet | {"rounds": 2, "tolerance": rule},
        )
        assert (len(rounds_of(run)) == 2) == ends


def test_models_of_a_finished_run(toy, tmp_path):
    run = go(tmp_path / "run", toy["features"], algorithm=FEDAPM)
    assert recompute_digest(run) == digest_of(run)
    shared = load_file(run / "final/shared.safetensors")
    assert set(shared) == {
        f"{part}.{kind}"
        for part in ("side_x", "side_y", "head")
        for kind in ("weight", "bias")
    }
    for i, width in ((0, 5), (1, 3), (3, 2)):
        named = dict(load_client_model(run, i).named_parameters())
        assert named["inlet.0.weight"].shape == (width, 6)
        assert ("side_x.weight" in named) == (i in HOLDERS["side_x"])
        for name in set(named) & set(shared):
            assert torch.equal(named[name].detach(), shared[name])
    rows = list(csv.DictReader((run / "split.csv").read_text().splitlines()))
    table = {(row["name"], row["shape"]): row for row in rows}
    assert len(table) == len(rows)
    clients = {
        row["name"]: int(row["clients"]) for row in rows if "side" in row["name"]
    }
    assert clients == {
        "side_x.weight": 5, "side_x.bias": 5, "side_y.weight": 7, "side_y.bias": 7,
    }  # fmt: skip
    inlets = [r for r in rows if r["name"] == "inlet.0.weight"]
    assert sorted(int(row["clients"]) for row in inlets) == [1, 3, 4]


def test_what_is_shared_starts_alike(toy):
    config = validate(experiment(toy["features"], **MIXED), "test")
    groups = open_context(config, Serial()).groups
    u = groups.space.named(groups.initial_shared())
    for group in groups.members:
        for name, x in group.model.module.named_parameters():
            if name in u:
                assert torch.equal(x.detach(), u[name])
    assert groups.of_client.tolist() == [1, 0, 0, 2, 0, 1, 1, 0]


def test_a_run_continues_with_the_bits_of_an_unbroken_one(toy, tmp_path):
    from fedapm_mpi.training.preemption import PreemptionGuard

    whole = go(tmp_path / "whole", toy["features"], algorithm=FEDAPM)
    stop = PreemptionGuard()
    stop.requested = True
    go(tmp_path / "broken", toy["features"], algorithm=FEDAPM, stop=stop)
    again = go(tmp_path / "broken", toy["features"], algorithm=FEDAPM, resume=True)
    assert digest_of(again) == digest_of(whole)


def test_groups_of_the_same_model_are_one_model(toy, tmp_path):
    """Splitting clients into groups that do not differ changes no bit."""
    plain = MIXED | {"groups": [], "partially_shared": None, "algorithm": FEDAPM}
    split = plain | {"groups": [{"clients": ["2-4"]}, {"clients": [7]}]}
    runs = [
        go(tmp_path / name, toy["features"], **changes)
        for name, changes in (("plain", plain), ("split", split))
    ]
    assert digest_of(runs[0]) == digest_of(runs[1])


def test_every_client_in_a_group_leaves_the_model_for_its_options(toy, tmp_path):
    groups = [
        {"clients": ["0-4"], "model": {"hidden": 5}},
        {"clients": ["5-7"], "model": {"hidden": 7}},
    ]
    run = go(
        tmp_path / "run",
        toy["features"],
        groups=groups,
        partially_shared=None,
        algorithm=FEDAPM,
    )
    rows = csv.DictReader((run / "split.csv").read_text().splitlines())
    widths = {row["shape"] for row in rows if row["name"] == "inlet.0.bias"}
    assert widths == {"(5,)", "(7,)"}


@pytest.mark.parametrize("personal", [["*"], ["inlet.*", "side_*"]])
def test_what_only_some_have_may_be_personal_by_now(toy, personal):
    """A configuration is copied from one split to another, and patterns stay."""
    changes = MIXED | {"split": {"personal": personal}, "algorithm": FEDAPM}
    config = validate(experiment(toy["features"], **changes), "test")
    names = {n for g in open_context(config, Serial()).groups.members
             for n in g.model.shared_names}  # fmt: skip
    assert not [name for name in names if name.startswith("side_")]
    wrong = MIXED | {"partially_shared": ["sidx_*"], "algorithm": FEDAPM}
    config = validate(experiment(toy["features"], **wrong), "test")
    with pytest.raises(ConfigError, match="'sidx_\\*' matches no shared parameter"):
        open_context(config, Serial())


HAR = {"name": "har", "filters": 2, "hidden": 4, "attention": 4}
LACKING = {
    "model": HAR,
    "split": {"personal": ["*_conv.*"]},
    "groups": [{"missing_inputs": ["gyro"]}, {"missing_inputs": ["acc"]}],
    "partially_shared": ["acc_rnn.*", "gyro_rnn.*"],
}


def test_clients_that_lack_an_input_have_no_encoder_for_it(toy, tmp_path):
    changes = LACKING | {"algorithm": FEDAPM}
    run = go(tmp_path / "run", toy["lacking"], **changes)
    config = validate(experiment(toy["lacking"], **MIXED | changes), "test")
    session = open_context(config, Serial())
    assert session.federation.manifest.lacking == {"acc": (4,), "gyro": (1, 3)}
    for i in range(6):
        names = {n for n, _ in load_client_model(run, i).named_parameters()}
        kinds = {n.partition(".")[0] for n in names}
        assert ("gyro_conv" in kinds) == ("gyro_rnn" in kinds) == (i not in (1, 3))
        assert ("acc_conv" in kinds) == ("acc_rnn" in kinds) == (i != 4)
        shapes = [tuple(x.shape[1:]) for x in session.samples(i, "train").inputs]
        assert len(shapes) == (1 if i in (1, 3, 4) else 2)
    assert rounds_of(run)[-1]["accuracy"] > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups": []}, "partially_shared: there are no groups"),
        (
            {"groups": [{"model": {"hidden": 2}}]},
            "exactly one of clients, names, missing_inputs",
        ),
        (
            {"groups": [{"clients": [1], "missing_inputs": ["x"]}]},
            "exactly one of clients, names, missing_inputs",
        ),
        (
            {"groups": [{"clients": [1], "model": {"hiden": 2}}]},
            "groups[0].model 'user_parts:towers': ",
        ),
        ({"groups": [{"client": [1]}]}, "did you mean 'clients'"),
        ({"groups": {"clients": [1]}}, "groups"),
        ({"groups": [{"clients": [1], "model": "cnnn"}]}, "did you mean 'cnn'"),
    ],
)
def test_what_is_written_wrong_is_refused(toy, changes, words):
    with pytest.raises(ConfigError, match="test:") as caught:
        validate(experiment(toy["features"], **MIXED | changes), "test")
    assert words in str(caught.value)


def test_buffers_are_averaged_only_where_they_are_alike(toy, tmp_path):
    normed = MIXED | {
        "model": {"name": "user_parts:batch_norm"},
        "split": {"personal": ["3.*"]},
        "partially_shared": None,
        "buffers": "mean",
        "algorithm": FEDAPM,
    }
    alike = normed | {"groups": [{"clients": [1, 2]}]}
    plain = normed | {"groups": []}
    runs = [
        go(tmp_path / str(k), toy["features"], **c)
        for k, c in enumerate((alike, plain))
    ]
    assert digest_of(runs[0]) == digest_of(runs[1])
    other = normed | {
        "split": {"personal": ["0.*", "1.*", "3.weight"]},
        "groups": [{"clients": [1, 2], "model": {"hidden": 7}}],
    }
    config = validate(experiment(toy["features"], **other), "test")
    with pytest.raises(ConfigError, match="groups\\[0\\] has other floating buffers"):
        open_context(config, Serial())
