"""Measured rounds made from known coefficients, as a study would measure them."""

import heapq
from itertools import product

import numpy as np

from fedapm_mpi.comm.backoff import poll_interval
from fedapm_mpi.participation import participation
from fedapm_mpi.placements import placements
from fedapm_mpi.studies.scaling.model import Sample
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import Workload, layout

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
    """Return what rounds take by `TRUE`, computed again: (phases, work, total)."""
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
