"""The samples that a model of a study is fitted to, from its runs and its data."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.schema import Config
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation.builder import build_plugin
from fedapm_mpi.placements import placements
from fedapm_mpi.studies.scaling.measurements import Measurements
from fedapm_mpi.studies.scaling.model import Sample
from fedapm_mpi.studies.scaling.model_terms import Scenario
from fedapm_mpi.studies.scaling.schedule import Ints, Workload
from fedapm_mpi.training.context import TrainingContext, open_context


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
    session = open_context(dataclasses.replace(config, device="cpu"), Serial())
    return Workload(
        train_samples=session.manifest.counts["train"],
        training_costs=session.training_costs,
        evaluation_costs=session.evaluation_costs,
        choose=partial(_choose, session),
        place=partial(_place, config.placement),
        places_by_cost=config.placement["name"] == "cost",
        seed=config.seed,
        dynamic=session.dynamic,
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


def _choose(session: TrainingContext, clients: int, rng: np.random.Generator) -> Ints:
    try:
        session.participation.check(clients)
    except ConfigError as error:
        msg = f"cannot predict {clients:,} clients: {error}"
        raise ConfigError(msg) from error
    return session.participation.choose(clients, rng)


def _place(placement: dict[str, Any], costs: Ints, ranks: int) -> Ints:
    placed: Ints = build_plugin(placements, placement, costs, ranks)
    return placed
