"""What a model of a study's times is fitted to, from its runs and its data."""

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
    """Return the samples of all finished points; their data sets must be there.

    Raises
    ------
    FedAPMError
        If an experiment cannot be opened any more.
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
    """Return what an experiment's configuration and data say of its clients."""
    session = open_context(dataclasses.replace(config, device="cpu"), Serial())
    return Workload(
        trained=session.manifest.counts["train"],
        costs=session.training_costs,
        tested=session.evaluation_costs,
        choose=partial(_choose, session),
        place=partial(_place, config.placement),
        places_by_cost=config.placement["name"] == "cost",
        seed=config.seed,
        together=session.dynamic,
        tests_all=config.evaluation.clients == "all",
    )


def _sample(one: Measurements, workload: Workload) -> Sample:
    setting = Scenario(
        workload=workload,
        nodes=np.array(one.nodes, np.int64),
        broadcast_bytes=one.broadcast_bytes,
        reduce_bytes=one.reduce_bytes,
        crowd=one.crowd,
    )
    drawn = [workload.participants(t) for t in one.rounds.tolist()]
    tested: list[Ints] = [np.arange(workload.clients)] * len(one.evaluated)
    if not workload.tests_all:
        tested = [workload.participants(t) for t in one.evaluated.tolist()]
    return Sample(
        case=one.point.case,
        setting=setting,
        participants=drawn,
        work=one.phases["work"] * one.hosts,
        phases={name: one.median(name) for name in one.phases},
        seconds=one.seconds,
        evaluation=float(one.evaluations.mean()) if len(tested) else float("nan"),
        evaluated=tested,
    )


def _choose(session: TrainingContext, clients: int, rng: np.random.Generator) -> Ints:
    try:
        session.participation.check(clients)
    except ConfigError as error:
        msg = f"cannot foretell {clients:,} clients: {error}"
        raise ConfigError(msg) from error
    return session.participation.choose(clients, rng)


def _place(part: dict[str, Any], costs: Ints, hosts: int) -> Ints:
    placed: Ints = build_plugin(placements, part, costs, hosts)
    return placed
