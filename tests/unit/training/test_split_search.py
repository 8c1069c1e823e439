"""The search for a split against the rule, on runs that are made one by one."""

import dataclasses
import math

import pytest

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.algorithms.fedsim import FedSim
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.config.split_options import AutoSplit
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.federation import build_algorithm
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.evaluation import evaluate_clients
from fedapm_mpi.training.local_scores import measure_scores
from fedapm_mpi.training.multiplier import measure_layers
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_phase import read_values, train_phase
from fedapm_mpi.training.split_rules import RULES
from fedapm_mpi.training.split_search import SplitSearch, phase_config, split_of
from tests.support.algorithm_options import SHARING_PART
from tests.support.data.recorded import JOINT
from tests.support.mixed_groups import MIXED
from tests.support.processes.cli_runs import FEDSIM, experiment

STOP = PreemptionGuard()
MLP = ["nothing", "output_bias", "biases", "head", "head+biases", "first_1", "all"]
TUNING = {"block": "personal", "lr": 0.1, "work": {"epochs": 1}}
OWN = {"units": "client", "rho": 0.3, "lr_shared": 0.05, "lr_personal": 0.05}


def search(data, auto=None, **changes):
    options = {"rounds": 4, **(auto or {})}
    values = {"split": {"auto": options}, "algorithm": JOINT | OWN, "dtype": "float64"}
    config = validate(experiment(data, **values | changes), "test")
    return SplitSearch(Serial(), config)


def test_candidates_are_tried_in_order_and_each_starts_from_the_one_before(toy):
    found = search(toy["features"])
    choice = found.run(STOP, everything=True)
    assert [one.candidate.name for one in choice.tested] == MLP
    sizes = [one.candidate.size for one in choice.tested]
    assert sizes == sorted(sizes)
    values = None
    for one in choice.tested:
        config = phase_config(found.config, one.candidate, 8)
        context = open_context(config, Serial())
        message = train_phase(context, values, STOP).message
        values = read_values(context, message)
        assert one.tests == measure_layers(context, message, 4)
        shared = {"body.0.weight", "body.0.bias", "head.weight", "head.bias"}
        assert set(one.tests) == shared - set(one.candidate.personal)


def test_the_first_that_suffices_is_chosen_and_ends_the_search(toy):
    whole = search(toy["features"]).run(STOP, everything=True)
    worst = [one.worst[1] if one.worst else 0.0 for one in whole.tested]
    assert worst[-1] == 0  # everything is personal
    for threshold in (0.5 * min(worst[:-1]), 1.0001 * worst[2], 2 * max(worst)):
        first = next(k for k, lm in enumerate(worst) if lm < threshold)
        choice = search(toy["features"], {"threshold": threshold}).run(STOP)
        assert choice.chosen.name == MLP[first]
        assert choice.tested == [
            dataclasses.replace(one, suffices=k == first)
            for k, one in enumerate(whole.tested[: first + 1])
        ]
        assert choice.split.personal == list(choice.chosen.personal)


def test_a_level_is_the_probability_of_an_excess(toy):
    whole = search(toy["features"], {"level": 1e-4}).run(STOP, everything=True)
    for one in whole.tested:
        p_values = [test.p_value for test in one.tests.values()]
        assert one.suffices == all(p > 1e-4 for p in p_values)


def test_where_none_suffices_the_one_closest_to_it_is_chosen(toy):
    names = ["nothing", "biases", "head"]
    choice = search(toy["features"], {"candidates": names, "threshold": 1e-3}).run(STOP)
    assert [one.candidate.name for one in choice.tested] == names
    best = min(choice.tested, key=lambda one: one.worst[1])
    assert choice.chosen == best.candidate
    assert not any(one.suffices for one in choice.tested)


def test_options_and_damping_reach_the_test(toy):
    found = search(toy["features"], {"damping": 5.0, "candidates": ["biases"]})
    (one,) = found.run(STOP).tested
    context = open_context(phase_config(found.config, one.candidate, 8), Serial())
    message = train_phase(context, None, STOP).message
    assert one.tests == measure_layers(context, message, 4, damping=5.0)
    assert one.tests != measure_layers(context, message, 4)


def test_only_the_first_clients_take_part(toy):
    found = search(toy["odd"], {"clients": 4})
    assert found.first.federation.num_clients == 4
    assert len(found.first.federation.participants(0)) == 4
    assert (
        search(toy["odd"], {"clients": 4}, clients=3).first.federation.num_clients == 3
    )


def test_a_phase_has_the_runs_solver_and_a_schedule_of_its_own(toy):
    found = search(
        toy["features"],
        optimizer="adam",
        schedule={"name": "linear", "warmup": 3},
        evaluation={"every": 1, "fine_tune": {"block": "personal", "lr": 0.1,
                                              "work": {"epochs": 1}}},
        tolerance={"absolute": 1e-3},
    )  # fmt: skip
    config = found.first.config
    assert config.optimizer == found.config.optimizer
    assert (config.schedule["name"], config.schedule["rounds"]) == ("cosine", 4)
    assert config.rounds == 4
    assert config.tolerance is None
    factors = [found.first.solver.factors(t)["shared"] for t in range(4)]
    expected = [0.05 + 0.95 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("name", [*SHARING_PART, "needy"])
def test_methods_that_need_both_blocks_are_not_asked_for_the_ends(
    toy, name, monkeypatch
):
    options = SHARING_PART.get(name, FEDSIM | {"name": "fedsim"})
    if name == "needy":  # as a user's own method is, unless it says otherwise
        monkeypatch.setattr(FedSim, "trained_blocks", Algorithm.trained_blocks)
    algorithm = build_algorithm(validate_algorithm(toy, options))
    found = search(toy["features"], algorithm=options)
    ends = {"nothing", "all"} if algorithm.trained_blocks() else set()
    assert {one.name for one in found.candidates} == {*MLP[1:-1], *ends}
    assert found.run(STOP).chosen in found.candidates


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"diagnostics": {"multiplier": True}}, "all"),
        ({"tolerance": {"absolute": 1e-3}}, "all"),
        ({"evaluation": {"shared_block": "both"}}, "all"),
        ({"evaluation": {"fine_tune": TUNING | {"block": "shared"}}}, "all"),
        ({"evaluation": {"fine_tune": TUNING}}, "nothing"),
    ],
    ids=str,
)
def test_ends_that_the_run_does_not_take_are_no_candidates(toy, changes, missing):
    found = search(toy["features"], **changes)
    assert {one.name for one in found.candidates} == {*MLP} - {missing}


def validate_algorithm(toy, options):
    return validate(experiment(toy["features"], algorithm=options), "test").algorithm


def test_finalists_are_compared_on_val_parts_from_the_initial_model(motion_with_val):
    auto = {
        "threshold": 1.5,
        "candidates": ["nothing", "output_bias", "biases", "head"],
    }
    alone = search(motion_with_val, auto).run(STOP)
    names = [one.candidate.name for one in alone.tested]
    found = search(motion_with_val, auto | {"finalists": 3})
    choice = found.run(STOP)
    here = auto["candidates"].index(names[-1])
    near = sorted(range(4), key=lambda k: (abs(k - here), k))[:3]
    values = {}
    for k in sorted(near):
        candidate = found.candidates[k]
        context = open_context(
            phase_config(found.config, candidate, 8, validated=True), Serial()
        )
        message = train_phase(context, None, STOP).message
        values[candidate.name] = evaluate_clients(context, message, 4).record[
            "accuracy"
        ]
    assert {
        one.candidate.name: one.val for one in choice.tested if one.val is not None
    } == values
    assert choice.chosen.name == max(values, key=values.get)


@pytest.fixture(scope="module")
def motion_with_val(tmp_path_factory):
    import numpy as np

    from data_prep.pipeline import plan, prepare

    root = tmp_path_factory.mktemp("val")
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(8), 40)
    y = rng.integers(0, 3, len(owner))
    x = rng.normal(size=(len(owner), 6)).astype(np.float32)
    x[np.arange(len(owner)), (y + owner % 2) % 6] += 2.0
    np.savez(root / "raw.npz", x_f=x, y=y, client=owner)
    values = {"partitioner": {"name": "natural"}, "val": 0.2}
    prepare(plan("arrays", values), root / "raw.npz", root / "data")
    return root / "data"


def test_a_search_that_is_asked_to_stop_has_no_choice(toy):
    assert search(toy["features"]).run(PreemptionGuard(1)) is None


@pytest.mark.parametrize(
    ("auto", "changes", "words"),
    [
        ({"candidates": ["bises"]}, {}, "offers no 'bises'; did you mean 'biases'?"),
        ({"candidates": ["norms"]}, {}, r"candidates: nothing, output_bias, biases"),
        ({"candidates": []}, {}, "offers no split that the algorithm 'fedapm' takes"),
        ({"finalists": 2}, {}, "has no val samples to compare them on"),
        ({}, {"clients": 1}, "1 of the first 1 clients have training samples"),
        ({"clients": 1}, {}, "needs two or more"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_phase(toy, auto, changes, words):
    with pytest.raises(ConfigError, match=words):
        search(toy["features"], auto, **changes)


def test_names_with_the_characters_of_patterns_are_taken_as_they_are():
    from fedapm_mpi.federation.split_candidates import SplitCandidate

    candidate = SplitCandidate("own", ("a[0].*",), 3)
    assert split_of(candidate).personal == ["a[[]0].[*]"]


def test_threshold_and_level_exclude_each_other():
    with pytest.raises(ValueError, match="threshold or level, not both"):
        AutoSplit(threshold=1.0, level=0.1)
    assert AutoSplit().test_threshold().value == 2.0


def mixed(data, **auto):
    """Return a search of clients with different models."""
    groups = {key: MIXED[key] for key in ("model", "groups", "partially_shared")}
    return search(data, auto, **groups)


def test_models_that_differ_share_no_more_than_they_can(toy):
    found = mixed(toy["features"], rounds=1)
    names = [one.name for one in found.candidates]
    assert (names[0], names[-1]) == ("differing", "all")
    choice = found.run(STOP, everything=True)
    assert [one.candidate.name for one in choice.tested] == names
    differing = set(found.candidates[0].personal)
    # Behind the inner width, which differs, the bias of the outer one may be shared.
    assert differing == {"inlet.0.weight", "inlet.0.bias", "inlet.2.weight"}
    for one in choice.tested:
        assert not differing & set(one.tests)


@pytest.mark.parametrize("rule", ["federation_sensitivity", "fedselect"])
@pytest.mark.parametrize("models", ["same", "different"])
def test_another_rule_chooses_by_its_scores(toy, rule, models):
    if models == "same":
        found = search(toy["features"], {"rule": rule, "rounds": 16})
    else:
        found = mixed(toy["features"], rule=rule, rounds=16)
    choice = found.run(STOP)
    assert choice.tested == []
    config = phase_config(found.config, found.candidates[-1], 8)
    config = dataclasses.replace(config, rounds=1)
    context = open_context(config, Serial())
    scores = measure_scores(context, RULES[rule], STOP)
    assert choice.scores == scores
    sizes = {n: p.numel() for g in context.groups.members
             for n, p in g.model.module.named_parameters()}  # fmt: skip
    own = RULES[rule].personal(scores, sizes)
    assert set(choice.chosen.personal) == own | set(found.candidates[0].personal)
    known = {one.personal: one.name for one in found.candidates}
    assert choice.chosen.name == known.get(choice.chosen.personal, rule)
