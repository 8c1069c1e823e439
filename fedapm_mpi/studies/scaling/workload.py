"""The samples that a model of a study is fitted to, from its runs and its data."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fedapm_mpi.aggregators import aggregators
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.federation.federation import (
    Federation,
    build_algorithm,
    build_federation,
    schedules_dynamically,
)
from fedapm_mpi.placements import placements
from fedapm_mpi.studies.scaling.measurements import Measurements
from fedapm_mpi.studies.scaling.model import Sample
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import Ints, Workload


def samples_of(measured: Sequence[Measurements]) -> list[Sample]:
    """Return the samples of all finished points, whose data sets must exist.

    Raises
    ------
    FedAPMError
        If an experiment cannot be opened, say because its data set is gone.
    """
    known: dict[str, Workload] = {}
    found = []
    for one in measured:
        case = one.point.case
        if case not in known:
            known[case] = workload_of(one.point.config)
        found.append(_sample(one, known[case]))
    return found


def workload_of(config: Config) -> Workload:
    """Return the clients' costs and placement, from configuration and data set."""
    manifest = read_manifest(config.data).first_clients(config.clients)
    algorithm = build_algorithm(config.algorithm)
    federation = build_federation(config, manifest, algorithm, size=1)
    aggregator = build_plugin(aggregators, config.aggregator)
    return Workload(
        train_samples=manifest.counts["train"],
        training_costs=federation.training_costs,
        evaluation_costs=federation.evaluation_costs,
        choose=partial(_choose, federation),
        place=partial(_place, config.placement),
        places_by_cost=config.placement["name"] == "cost",
        seed=config.seed,
        dynamic=schedules_dynamically(config, aggregator),
        evaluates_all=config.evaluation.clients == "all",
    )


def _sample(one: Measurements, workload: Workload) -> Sample:
    scenario = Scenario(
        workload=workload,
        nodes=np.array(one.nodes, np.int64),
        broadcast_bytes=one.broadcast_bytes,
        reduce_bytes=one.reduce_bytes,
        oversubscription=one.oversubscription,
    )
    evaluated: list[Ints] = [np.arange(workload.clients)] * len(one.evaluated)
    if not workload.evaluates_all:
        evaluated = [workload.participants(t) for t in one.evaluated.tolist()]
    return Sample(
        case=one.point.case,
        scenario=scenario,
        participants=[workload.participants(t) for t in one.rounds.tolist()],
        work=one.phases["work"] * one.client_ranks,
        phases={name: one.median(name) for name in one.phases},
        seconds=one.seconds,
        evaluation=float(one.evaluations.mean()) if evaluated else float("nan"),
        evaluated=evaluated,
    )


def _choose(federation: Federation, clients: int, rng: np.random.Generator) -> Ints:
    try:
        federation.scheme.check(clients)
    except ConfigError as error:
        msg = f"cannot predict {clients:,} clients: {error}"
        raise ConfigError(msg) from error
    return federation.scheme.choose(clients, rng)


def _place(placement: dict[str, Any], costs: Ints, ranks: int) -> Ints:
    placed: Ints = build_plugin(placements, placement, costs, ranks)
    return placed
