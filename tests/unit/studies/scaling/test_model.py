"""The model of a round's time: its fit, its draws, what it foretells."""

import dataclasses
import heapq
from itertools import pairwise, product

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.comm.backoff import poll_interval
from fedapm_mpi.config.loader import validate
from fedapm_mpi.federation.assignment import assign
from fedapm_mpi.federation.federation import place
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import placements
from fedapm_mpi.studies.scaling import schedule
from fedapm_mpi.studies.scaling.model import Model, Sample, fit_model
from fedapm_mpi.studies.scaling.model_fit import fit, nonnegative
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.predict import crossover, ensemble, hold_out
from fedapm_mpi.studies.scaling.schedule import Workload, layout, rank_load
from fedapm_mpi.studies.scaling.simulate import (
    Machine,
    Schedule,
    replay,
    replayed_rounds,
    waiting,
)
from fedapm_mpi.studies.scaling.workload import workload_of
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import experiment

TRUE = {
    "broadcast": {"L": 2e-4, "L*D": 1e-8},
    "work": {"q": 3e-4, "n": 5e-3},
    "reduce": {"L": 3e-4, "k*U": 4e-9},
    "server": {"1": 1e-3, "n": 1e-4},
    "consensus": {"L": 1e-3},
    "idle": {"poll": 1.5},
}


def workload(clients=60, seed=0, fraction=0.3, **changes):
    """Return clients of uneven sizes, who take part at random."""
    sizes = np.random.default_rng(seed).integers(20, 200, clients)
    values = {
        "train_samples": sizes, "training_costs": sizes, "evaluation_costs": sizes,
        "choose": participation.get("random")(fraction=fraction).choose,
        "place": placements.get("cost"), "places_by_cost": True,
        "seed": seed, "dynamic": True, "evaluates_all": True,
    }  # fmt: skip
    return Workload(**values | changes)


def true_phases(scenario, rounds):
    """Return what rounds take by `TRUE`, worked out anew: (phases, work, total)."""
    known, p = scenario.workload.training_costs, scenario.client_ranks
    depth = next(k for k in range(20) if 2**k >= scenario.ranks)
    down, up = scenario.broadcast_bytes, scenario.reduce_bytes
    work, slowest, most = [], [], []
    for clients in rounds:
        each = sorted(((known[c] * 3e-4 + 5e-3) for c in clients), reverse=True)
        free = [(0.0, 0) for _ in range(p)]
        for seconds in each:
            taken, count = heapq.heappop(free)
            heapq.heappush(free, (taken + seconds, count + 1))
        work.append(sum(each))
        slowest.append(max(free)[0])
        most.append(max(count for _, count in free))
    n = np.mean([len(c) for c in rounds])
    longest = float(np.median(slowest))
    phases = {
        "broadcast": depth * (2e-4 + 1e-8 * down),
        "work": float(np.median(work)) / p,
        "imbalance": longest - float(np.median(work)) / p,
        "reduce": depth * 3e-4 + 4e-9 * float(np.median(most)) * up,
        "server": 1e-3 + 1e-4 * n,
        "consensus": depth * 1e-3,
        "idle": 1.5 * poll_interval(longest) + 1e-8 * 5 * 8 * n,
    }
    return phases, np.array(work)


def measured(kind, clients, p, down, noise=0.0, repetition=0):
    """Return a sample of a scenario that takes what `TRUE` says, but for noise."""
    rng = np.random.default_rng([p, clients, down, repetition])
    scenario = Scenario(workload(clients), layout(p, p + 1), down, 2 * down)
    rounds = [scenario.workload.participants(t) for t in range(2, 9)]
    phases, work = true_phases(scenario, rounds)
    blur = float(np.exp(noise * rng.standard_normal()))
    phases = {name: value * blur for name, value in phases.items()}
    return Sample(
        case=f"{kind}-{p}-{down}",
        scenario=scenario,
        participants=rounds,
        work=work * blur,
        phases=phases,
        seconds=sum(phases.values()),
        evaluation=blur
        * (1e-3 + 1e-5 * float(scenario.workload.evaluation_costs.sum())),
        evaluated=[np.arange(clients)],
    )


def study(noise=0.0, repetitions=1, most=16):
    ranks = [p for p in (1, 2, 4, 8, 16) if p <= most]
    cases = [("strong", 60, p, 4000) for p in ranks]
    cases += [("weak", 12 * p, p, 4000) for p in ranks]
    cases += [("size", 60, 2, down) for down in (400_000, 4_000_000)]
    return [
        measured(*case, noise=noise, repetition=k)
        for k, case in product(range(repetitions), cases)
    ]


def test_nonnegative_least_squares_against_a_grid():
    rng = np.random.default_rng(1)
    matrix = rng.uniform(0, 1, (30, 2))
    target = matrix @ [2.0, -0.5] + 0.01 * rng.standard_normal(30)
    found = nonnegative(matrix, target)
    assert found[1] == 0
    grid = np.linspace(0, 3, 30001)
    errors = ((np.outer(grid, matrix[:, 0]) - target) ** 2).sum(axis=1)
    assert found[0] == pytest.approx(grid[errors.argmin()], abs=1e-4)


def test_a_term_that_is_only_noise_is_not_taken():
    rng = np.random.default_rng(2)
    x = np.arange(1.0, 21.0)
    terms = {"1": np.ones(20), "x": x, "noise": rng.uniform(0, 1, 20)}
    target = 2 + 3 * x + 0.01 * rng.standard_normal(20)
    found = fit(terms, target).coefficients
    assert found["noise"] == 0
    assert found["x"] == pytest.approx(3, rel=1e-2)


def test_terms_that_cannot_be_told_apart_are_dropped_later_ones_first():
    ones = np.ones(4)
    terms = {"1": ones, "zero": 0 * ones, "twice": 2 * ones, "x": np.arange(1.0, 5.0)}
    found = fit(terms, 1 + terms["x"])
    assert found.dropped == ["zero", "twice"]
    assert found.coefficients == pytest.approx({"1": 1, "x": 1})
    assert fit({"zero": 0 * ones}, ones).coefficients == {}


def test_draws_are_those_of_the_run(toy):
    """Participants, homes and dealing of a real session on ranks of two nodes."""
    config = validate(experiment(toy["features"]), "test")
    session = open_context(config, Serial())
    found = workload_of(config)
    nodes = np.array([-1, 0, 0, 3, 3])
    home_of = place(config.placement, session.federation.manifest, 5)
    assert (schedule.home_assignment(found, 4) == home_of).all()
    for t in range(6):
        chosen = found.participants(t)
        assert (chosen == session.federation.participants(t)).all()
        costs = session.federation.training_costs
        expected = assign(chosen, costs, home_of, nodes).loads(costs, 5)
        got = rank_load(found, chosen, costs[chosen].astype(float), home_of, nodes)
        assert got.slowest == expected.max()
        assert got.mean == pytest.approx(expected.sum() / 4)
    assert found.training_costs.tolist() == session.federation.training_costs.tolist()
    assert (
        found.evaluation_costs.tolist() == session.federation.evaluation_costs.tolist()
    )


def test_participants_that_stay_where_they_live(toy):
    config = validate(experiment(toy["features"], scheduling="static"), "test")
    found = workload_of(config)
    assert not found.dynamic
    home_of = schedule.home_assignment(found, 3)
    chosen = found.participants(0)
    seconds = found.training_costs[chosen].astype(float)
    got = rank_load(found, chosen, seconds, home_of, layout(3, 4))
    of_rank = [seconds[home_of[chosen] == rank].sum() for rank in (1, 2, 3)]
    assert got.slowest == max(of_rank)
    assert got.max_clients == max((home_of[chosen] == rank).sum() for rank in (1, 2, 3))


def test_nobody_takes_part():
    empty = np.zeros(0, np.int64)
    got = rank_load(workload(), empty, np.zeros(0), np.ones(60, np.int64), layout(3, 4))
    assert got == (0.0, 0.0, 0.0)


def test_what_stands_in_for_many_clients_is_close(monkeypatch):
    many = workload(6000)
    nodes = layout(40, 8)
    chosen = many.participants(0)
    seconds = many.training_costs[chosen].astype(float)
    home_of = schedule.home_assignment(many, 40)
    exact = rank_load(many, chosen, seconds, home_of, nodes)
    monkeypatch.setattr(schedule, "EXACT_ASSIGNMENT_LIMIT", 10)
    bound = rank_load(many, chosen, seconds, home_of, nodes)
    assert 0.98 * exact.slowest < bound.slowest <= exact.slowest
    assert bound.max_clients == pytest.approx(exact.max_clients, rel=0.05)
    sums = np.bincount(schedule.home_assignment(many, 40), many.train_samples)[1:]
    assert sums.max() < 1.01 * sums.mean()


def test_clients_that_the_data_have_not_are_those_there_are_again():
    more = workload(4).resized(10)
    assert more.clients == 10
    assert (
        more.training_costs.tolist()
        == np.tile(workload(4).training_costs, 3)[:10].tolist()
    )


def test_the_fit_recovers_what_the_times_were_made_of():
    model = fit_model(study())
    for phase, coefficients in TRUE.items():
        found = model.parts[phase].coefficients
        assert {k: v for k, v in found.items() if v} == pytest.approx(
            coefficients, rel=1e-6
        ), phase
    assert not any(model.parts["spread"].coefficients.values())
    whole = {k: v for k, v in model.parts["evaluation"].coefficients.items() if v}
    assert whole == pytest.approx({"1": 1e-3, "all": 1e-5})


def test_the_largest_points_are_foretold():
    samples = study()
    held = hold_out(samples, ["strong-16-4000", "weak-16-4000"], 2)
    assert [one.case for one in held] == ["strong-16-4000", "weak-16-4000"]
    assert all(abs(one.error) < 1e-6 for one in held)
    assert hold_out(samples[:2], [samples[0].case]) == []


def test_predictions_of_other_ranks_and_clients():
    fitted = ensemble(study(), replicates=3)
    scenario = Scenario(workload(500), layout(1, 2), 4000, 8000).on_ranks(64, 65)
    rounds = [scenario.workload.participants(t) for t in range(5)]
    phases, _ = true_phases(scenario, rounds)
    found = fitted.predict(scenario, rounds)
    assert found.phases == pytest.approx(phases, rel=1e-6)
    assert found.seconds == pytest.approx(sum(phases.values()))
    assert found.limit == max(phases, key=phases.get)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """All phases of a run are off by one factor, 3 % in the mean."""
    scenario = Scenario(workload(60), layout(32, 33), 4000, 8000)
    rounds = [scenario.workload.participants(t) for t in range(2, 9)]
    truth = sum(true_phases(scenario, rounds)[0].values())
    inside = 0
    for trial in range(12):
        cases = [(60, p) for p in (1, 2, 4, 8)] + [(12 * p, p) for p in (2, 4)]
        samples = [
            measured(f"of-{clients}", clients, p, 4000, 0.03, 100 * trial + k)
            for k, (clients, p) in product(range(3), cases)
        ]
        found = ensemble(samples, replicates=40).predict(scenario, rounds)
        inside += found.low <= truth <= found.high
        assert found.high < 1.5 * found.low
    assert inside >= 11


def test_a_broadcast_still_on_its_way_is_no_idle_time():
    """The server waits 3 ns a byte and step for what it has handed over before."""
    late = []
    for sample in study():
        scenario = sample.scenario
        phases = dict(sample.phases)
        phases["idle"] += 3e-9 * scenario.depth * scenario.broadcast_bytes
        late.append(dataclasses.replace(sample, phases=phases))
    model, scenario = fit_model(late), late[-1].scenario
    assert scenario.broadcast_bytes == 4_000_000
    drawn = model.sample_rounds(scenario, late[-1].participants)
    expected, _ = true_phases(scenario, late[-1].participants)
    expected["broadcast"] += 3e-9 * scenario.depth * 4_000_000
    assert model.phases(scenario, drawn) == pytest.approx(expected)


def test_what_was_not_varied_is_not_known():
    """Of one size of message no bandwidth follows; of few ranks, nothing per rank."""
    few = [s for s in study(most=4) if not s.case.startswith("size")]
    model = fit_model(few)
    assert {"L*D", "S*D"} <= set(model.parts["broadcast"].dropped)
    assert {"L*U", "S*U"} <= set(model.parts["reduce"].dropped)
    assert "P" in model.parts["consensus"].dropped
    assert "P" not in fit_model(study(most=8)).parts["consensus"].dropped


def test_what_shared_cores_cost_is_told_apart():
    """Two cores: work takes as much longer, and each broadcast 2 ms a rank too many."""
    crowded = []
    for sample in study():
        crowd = max(0.0, sample.scenario.client_ranks / 2 - 1)
        phases = dict(sample.phases)
        phases["broadcast"] += 2e-3 * crowd
        scenario = dataclasses.replace(sample.scenario, oversubscription=crowd)
        known = scenario.workload.training_costs
        extra = [float(known[c].sum()) * 3e-4 * crowd for c in sample.participants]
        changed = dataclasses.replace(
            sample, scenario=scenario, phases=phases, work=sample.work + extra
        )
        crowded.append(changed)
    model = fit_model(crowded)
    broadcast, work = (model.parts[n].coefficients for n in ("broadcast", "work"))
    found = {name: value for name, value in broadcast.items() if value}
    assert found == pytest.approx(TRUE["broadcast"] | {"oversubscription": 2e-3})
    found = {name: value for name, value in work.items() if value}
    assert found == pytest.approx(TRUE["work"] | {"q*oversubscription": 3e-4})
    assert "P" in model.parts["consensus"].dropped
    free = crowded[0].scenario.on_ranks(64, 65)
    assert free.oversubscription == 0
    rounds = crowded[0].participants
    phases, _ = true_phases(free, rounds)
    got = model.phases(free, model.sample_rounds(free, rounds))
    assert got["broadcast"] == pytest.approx(phases["broadcast"])
    assert got["work"] == pytest.approx(phases["work"])


def test_where_work_is_no_longer_most_of_a_round():
    model, scenario = fit_model(study()), study()[0].scenario
    rounds = study()[0].participants
    p, leading = crossover(model, scenario, rounds, 1024, 2000)
    shares = {}
    for ranks in (p // 2, p):
        phases, _ = true_phases(scenario.on_ranks(ranks, 2000), rounds)
        shares[ranks] = phases.pop("work") / (sum(phases.values()) + phases["idle"])
        first = max(phases, key=phases.get)
    assert leading == first
    assert shares[p // 2] > shares[p]
    assert crossover(model, scenario, rounds, 1, 2) is None


def test_ten_million_clients_on_ten_thousand_ranks():
    model = fit_model(study(most=4))
    big = workload().resized(10_000_000)
    scenario = Scenario(big, layout(10_000, 64), 4000, 8000)
    rounds = [np.arange(0, 10_000_000, 10)]
    phases = model.phases(scenario, model.sample_rounds(scenario, rounds))
    work = (big.training_costs[rounds[0]] * 3e-4 + 5e-3).sum() / 10_000
    assert phases["work"] == pytest.approx(work)
    assert 0 <= phases["imbalance"] < 0.1 * work


def test_a_replay_by_hand():
    """Three ranks on two nodes; cores twice as fast; four rounds of all clients."""
    everyone = participation.get("full")().choose
    scenario = Scenario(workload(4, choose=everyone), layout(3, 2), 1000, 2000)
    model = fit_model(study())
    calendar = Schedule(rounds=4, evaluate_every=3, measure_every=2)
    machine = Machine(scenario.nodes, latency=1e-3, bandwidth=1e6, speed=2.0)
    rounds = replay(
        model, scenario, calendar, machine, replayed_rounds(scenario.workload, 4)
    )
    costs = scenario.workload.training_costs
    homes = schedule.home_assignment(scenario.workload, 3)
    seconds = (costs * 3e-4 + 5e-3) / 2
    on_first = seconds[homes == 1].sum()  # rank 1 shares its node with the server
    others = seconds[homes > 1]
    slowest = max(on_first, time_of_two(others))
    first = rounds[0]
    assert first.start == 0
    assert first.broadcast == pytest.approx(2 * (1e-3 + 1000 / 1e6))
    assert first.work == pytest.approx(seconds.sum() / 3)
    assert first.work + first.imbalance == pytest.approx(slowest)
    assert first.server == pytest.approx((1e-3 + 1e-4 * 4) / 2)
    assert [bool(one.evaluation) for one in rounds] == [False, False, True, True]
    assert [bool(one.consensus) for one in rounds] == [False, True, False, True]
    for one, after in pairwise(rounds):
        assert after.start == one.end
        assert one.end - one.start == pytest.approx(sum(one[2:10]))
    busy = sum(one.work + one.evaluation for one in rounds)
    assert waiting(rounds) == pytest.approx(1 - busy / rounds[-1].end)


def time_of_two(seconds):
    """Return the time of two ranks that take the largest left whenever free."""
    free = [0.0, 0.0]
    for taken in sorted(seconds, reverse=True):
        free[free.index(min(free))] += taken
    return max(free)


def test_a_model_without_evaluations_gives_them_no_time():
    samples = [
        dataclasses.replace(s, evaluation=float("nan"), evaluated=[]) for s in study()
    ]
    model = fit_model(samples)
    assert isinstance(model, Model)
    assert model.evaluation(samples[0].scenario, [np.arange(60)]) == 0
