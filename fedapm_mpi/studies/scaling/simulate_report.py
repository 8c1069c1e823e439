"""Plan a run on a machine: what is said, and the files."""

from dataclasses import replace
from pathlib import Path

from fedapm_mpi.studies.scaling import schedule as draws
from fedapm_mpi.studies.scaling import tables as telling
from fedapm_mpi.studies.scaling.measurements import PHASES
from fedapm_mpi.studies.scaling.model import fit_model
from fedapm_mpi.studies.scaling.model_report import base_of, fit_study, with_clients
from fedapm_mpi.studies.scaling.platform import load
from fedapm_mpi.studies.scaling.report import made
from fedapm_mpi.studies.scaling.simulate import (
    Machine,
    Schedule,
    SimulatedRound,
    first_rounds,
    replay,
    waiting,
)
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import echo, print_table

log = get_logger(__name__)


def simulate(root: Path, file: Path) -> int:
    """Replay the study's experiment on a platform; return the exit code."""
    platform = load(file)
    measured, samples = fit_study(root)
    base = base_of(samples)
    config = next(m.point.config for m in measured if m.point.case == base.case)
    schedule = Schedule(
        rounds=platform.rounds or config.rounds,
        evaluate_every=config.evaluation.every,
        measure_every=config.diagnostics.every,
    )
    nodes = draws.layout(platform.ranks - 1, platform.ranks_per_node)
    setting = base.setting
    if platform.clients is not None:
        setting = with_clients(setting, platform.clients)
    setting = replace(setting, nodes=nodes, crowd=0.0)
    machine = Machine(
        nodes=nodes,
        latency=platform.latency_us * 1e-6,
        bandwidth=platform.bandwidth_GBps * 1e9,
        speed=platform.core_speed,
    )
    rounds = first_rounds(setting.workload, schedule.rounds)
    if len(rounds) < schedule.rounds:
        log.info("the participants of %d rounds come again and again", len(rounds))
    model = fit_model(samples)
    if not model.parts["evaluation"].coefficients:
        log.info("no measured round ends with an evaluation, so none takes time here")
    timeline = replay(model, setting, schedule, machine, rounds)
    _report(timeline, platform.nodes, platform.ranks, setting.workload.clients)
    path = made(root / "simulate") / f"{file.stem}.csv"
    telling.write_csv(path, SimulatedRound._fields, timeline)
    echo(f"in {path.parent}: {path.name}")
    return 0


def _report(
    timeline: list[SimulatedRound], nodes: int, ranks: int, clients: int
) -> None:
    total = timeline[-1].end
    rows = []
    for name in (*PHASES, "evaluation"):
        taken = sum(getattr(one, name) for one in timeline)
        mean = f"{taken / len(timeline):.4g}"
        rows.append((name, f"{taken:.4g}", mean, f"{taken / total:.1%}"))
    title = f"{len(timeline)} rounds, {clients:,} clients, {ranks:,} ranks"
    print_table(title, ("phase", "seconds", "a round", "share"), rows)
    most = max(timeline, key=lambda one: one.end - one.start)
    echo(
        f"{_clock(total)} in all, the longest round {most.round} with "
        f"{most.end - most.start:.4g} s"
    )
    echo(f"ranks that train wait for {waiting(timeline):.1%} of their time")
    echo(f"{nodes * total / 3600:.4g} node-hours on {nodes:,} nodes")


def _clock(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.4g} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"
