"""Simulate a run on a platform, and report its timeline."""

from pathlib import Path

from fedapm_mpi.studies.scaling.measurements import PHASES
from fedapm_mpi.studies.scaling.model import fit_model
from fedapm_mpi.studies.scaling.model_report import read_samples
from fedapm_mpi.studies.scaling.platform import load
from fedapm_mpi.studies.scaling.predict import base_sample
from fedapm_mpi.studies.scaling.report import make_folder
from fedapm_mpi.studies.scaling.simulate import (
    Machine,
    Schedule,
    SimulatedRound,
    replay,
    replayed_rounds,
    waiting,
)
from fedapm_mpi.studies.scaling.tables import write_csv
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import echo, print_table

log = get_logger(__name__)


def simulate(root: Path, file: Path) -> int:
    """Replay the study's experiment on a platform; return the exit code.

    Parameters
    ----------
    root
        The study's directory.
    file
        YAML file of the platform.

    Raises
    ------
    FedAPMError
        If the study or the platform cannot be read, too little of the study is
        finished, or SciPy is not installed.
    """
    platform = load(file)
    measured, samples = read_samples(root)
    base = base_sample(samples)
    config = next(m.point.config for m in measured if m.point.case == base.case)
    schedule = Schedule(
        rounds=platform.rounds or config.rounds,
        evaluate_every=config.evaluation.every,
        measure_every=config.diagnostics.every,
    )
    scenario = base.scenario.on_ranks(platform.ranks - 1, platform.ranks_per_node)
    if platform.clients is not None:
        scenario = scenario.resized(platform.clients)
    machine = Machine(
        nodes=scenario.nodes,
        latency=platform.latency_us * 1e-6,
        bandwidth=platform.bandwidth_GBps * 1e9,
        speed=platform.core_speed,
    )
    rounds = replayed_rounds(scenario.workload, schedule.rounds)
    if len(rounds) < schedule.rounds:
        log.info("the participants of the first %d rounds are repeated", len(rounds))
    model = fit_model(samples)
    if not model.parts["evaluation"].coefficients:
        log.info("no measured round ends with an evaluation, so none takes time here")
    timeline = replay(model, scenario, schedule, machine, rounds)
    _report(timeline, platform.nodes, platform.ranks, scenario.workload.clients)
    path = make_folder(root / "simulate") / f"{file.stem}.csv"
    write_csv(path, SimulatedRound._fields, timeline)
    echo(f"in {path.parent}: {path.name}")
    return 0


def _report(
    timeline: list[SimulatedRound], nodes: int, ranks: int, clients: int
) -> None:
    total = timeline[-1].end
    rows = []
    for name in (*PHASES, "evaluation"):
        taken = sum(one._asdict()[name] for one in timeline)
        mean = f"{taken / len(timeline):.4g}"
        rows.append((name, f"{taken:.4g}", mean, f"{taken / total:.1%}"))
    title = f"{len(timeline)} rounds, {clients:,} clients, {ranks:,} ranks"
    print_table(title, ("phase", "seconds", "per round", "share"), rows)
    longest = max(timeline, key=lambda one: one.end - one.start)
    echo(
        f"{_clock(total)} in all; the longest round is {longest.round} with "
        f"{longest.end - longest.start:.4g} s"
    )
    echo(f"client ranks wait for {waiting(timeline):.1%} of their time")
    echo(f"{nodes * total / 3600:.4g} node-hours on {nodes:,} nodes")


def _clock(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.4g} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
