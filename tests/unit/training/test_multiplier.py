"""The multiplier test of a run against single backward passes over its final state."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from fedapm_mpi.analysis.client_model import load_client_model, measure_final_state
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.multiplier import measure_layers, sum_exactly
from tests.support.data.recorded import go, ids
from tests.support.mixed_groups import MIXED
from tests.support.processes.cli_runs import experiment, rounds_of

WITH_TEST = {"diagnostics": {"multiplier": True}, "dtype": "float64"}
FULL = {"participation": {"name": "full"}}


def layers_by_hand(run, data, clients, shared, damping=0.1):
    """Return LM of each shared parameter, from a backward pass for each sample.

    `shared` says of a parameter's name whether it is shared.
    """
    config = validate(experiment(data, dtype="float64"), "test")
    context = open_context(config, Serial())
    terms = {}
    for client in clients:
        module = load_client_model(run, client).eval()
        samples = context.samples(client, "train")
        n = len(samples.targets)
        if not n:
            continue
        own = {name: p for name, p in module.named_parameters() if shared(name)}
        each = {name: [] for name in own}
        for k in range(n):
            module.zero_grad()
            scores = module(*(x[k : k + 1] for x in samples.inputs))
            cross_entropy(scores, samples.targets[k : k + 1]).backward()
            for name, parameter in own.items():
                each[name].append(parameter.grad.flatten().clone())
        for name, rows in each.items():
            g = torch.stack(rows)
            terms.setdefault(name, []).append((n, g.mean(0), (g * g).mean(0)))
    found = {}
    for name, whose in terms.items():
        m, total = len(whose), sum(n for n, _, _ in whose)
        center = sum(n * s for n, s, _ in whose) / total
        spread = sum(n * (s - center) ** 2 for n, s, _ in whose) / (m - 1)
        fisher = sum(q for _, _, q in whose) / m
        damped = fisher + damping * fisher.mean()
        found[name] = float((spread / damped).sum() / (fisher / damped).sum())
    return found


@pytest.mark.parametrize("personal", [["head.*"], ["*bias*"], []], ids=str)
def test_a_record_has_lm_of_every_shared_layer(toy, tmp_path, personal):
    """Also with a client that has no training samples."""
    data = toy["odd"]
    run = go(tmp_path / "run", data, split={"personal": personal}, **FULL, **WITH_TEST)
    expected = layers_by_hand(
        run, data, range(8), lambda name: not any(
            name.startswith("head") if p == "head.*" else "bias" in name
            for p in personal
        )
    )  # fmt: skip
    records = rounds_of(run)
    found = records[-1]["multiplier"]
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-9)
    measured = measure_final_state(run)
    assert {n: one.lm for n, one in measured.items()} == pytest.approx(found, rel=1e-9)
    assert "multiplier" not in records[0]  # no client has taken part
    assert ["multiplier" in one for one in records[1:]] == [False, True, False, True,
                                                            True]  # fmt: skip


def test_clients_that_never_took_part_do_not_count(toy, tmp_path):
    data = toy["features"]
    few = {"participation": {"name": "random", "fraction": 0.3}, "rounds": 2}
    run = go(tmp_path / "run", data, **few, **WITH_TEST)
    records = rounds_of(run)
    took_part = {i for one in records[1:] for i in ids(one["participants"])}
    assert 2 <= len(took_part) < 8
    expected = layers_by_hand(run, data, sorted(took_part), lambda n: n[:4] == "body")
    assert records[-1]["multiplier"] == pytest.approx(expected, rel=1e-9)
    measured = {name: test.lm for name, test in measure_final_state(run).items()}
    assert measured == pytest.approx(expected, rel=1e-9)


def test_the_test_changes_nothing_of_a_run(toy, tmp_path):
    """Of its records only its own key, and no bit of its state."""
    from tests.support.processes.cli_runs import digest_of

    plain = go(tmp_path / "plain", toy["features"])
    tested = go(tmp_path / "tested", toy["features"], **WITH_TEST)
    assert digest_of(plain) == digest_of(tested)


def test_clients_with_other_models_count_where_they_hold_a_layer(toy, tmp_path):
    values = {**MIXED, **WITH_TEST, **FULL, "rounds": 2}
    run = go(tmp_path / "run", toy["features"], **values)
    found = rounds_of(run)[-1]["multiplier"]
    context = open_context(
        validate(experiment(toy["features"], **values), "test"), Serial()
    )
    # Client 3 alone lacks the side y, and clients 0, 5 and 6 the side x.
    by_holders = {
        "side_x": [1, 2, 3, 4, 7],
        "side_y": [0, 1, 2, 4, 5, 6, 7],
    }
    for name, lm in found.items():
        whose = by_holders.get(name.split(".")[0], range(8))
        expected = layers_by_hand(run, toy["features"], whose, lambda n, k=name: n == k)
        assert lm == pytest.approx(expected[name], rel=1e-9), name
    assert set(found) == set(context.groups.space.places)


def test_where_nothing_is_shared_it_is_refused(toy):
    values = {"split": {"shared": []}, **WITH_TEST}
    config = validate(experiment(toy["features"], **values), "test")
    with pytest.raises(ConfigError, match="tests what is shared, but nothing is"):
        open_context(config, Serial())


def test_gradients_that_are_not_finite_are_named(toy):
    config = validate(experiment(toy["features"], **WITH_TEST), "test")
    context = open_context(config, Serial())
    message = torch.full((context.payload.down_length,), torch.inf, dtype=torch.float64)
    with pytest.raises(TrainingError, match="gradients of client 0 are not finite aft"):
        measure_layers(context, message, 3)


def test_the_sum_of_vectors_is_exact_in_any_order(toy):
    config = validate(experiment(toy["features"]), "test")
    context = open_context(config, Serial())
    rng = np.random.default_rng(2)
    vectors = list(rng.normal(size=(8, 5)) * 10.0 ** rng.integers(-3, 3, (8, 5)))
    one = sum_exactly(context, list(range(8)), vectors, 5, 0)
    other = sum_exactly(context, list(range(8))[::-1], vectors[::-1], 5, 0)
    assert one.tobytes() == other.tobytes()
    assert one == pytest.approx(np.sum(vectors, axis=0), rel=1e-12)
    assert not sum_exactly(context, [], [], 5, 0).any()
