"""Peak memory of a run, compared with ``--dry-run``, and its growth over rounds.

    [mpiexec -n 3] python -m benchmarks.memory [--data FOLDER] [--rounds 1000]
                                               [--csv FILE]

W1 for twelve rounds, after which nearly all clients have been trained and all have been
read; then `--rounds` rounds of clients with few samples, where memory after a tenth of
them is compared with that at the end. On several ranks of a node, which share client
states, each is reported. Needs Linux.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import startup_time as startup
from benchmarks import workloads as w1
from benchmarks._common import keep, machine
from fedapm_mpi.comm import SERVER
from fedapm_mpi.comm.runtime import open_communicator
from fedapm_mpi.config.loader import validate
from fedapm_mpi.tracking.loggers.jsonl import JsonlLogger
from fedapm_mpi.tracking.run_directory import RunDirectory
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.dry_run import measure, memory
from fedapm_mpi.training.loop import train
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.utils.system_info import peak_memory, resident_memory

WITHIN, GROWTH = 0.15, 0.01
"""Maximum relative difference of peak and plan, and growth of memory."""


ROUNDS = 12


class Watch(PreemptionGuard):
    """Records a rank's memory in every round, where the loop asks whether to stop."""

    def __init__(self) -> None:
        self.found: list[int] = []

    @property
    def requested(self) -> bool:  # type: ignore[override]
        """Return that it is not to stop."""
        self.found.append(resident_memory())
        return False


def trained(session: TrainingContext) -> list[int]:
    """Train; return this rank's resident bytes in each round."""
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        recorder = RunDirectory(Path(session.comm.bcast_object(name)))
        logger = JsonlLogger(recorder)
        train(session, recorder, identity={}, logger=logger, stop=watch)
        session.comm.barrier()
    return watch.found


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    comm = open_communicator()
    data = w1.prepare(args.data, "W1") if comm.rank == SERVER else None
    values = w1.configuration(comm.bcast_object(data), "fedapm", ROUNDS)
    values["evaluation"] = {"every": 2}
    session = open_context(validate(values, "benchmark"), comm)
    measure(session)
    planned = memory(session).total
    trained(session)
    peak = peak_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(comm.bcast_object(name))
        small = startup.configuration(folder) if comm.rank == SERVER else None
        small = comm.bcast_object(small)
        ends = {"rounds": args.rounds, "checkpoint": {"every": args.rounds}}
        few = {"participation": {"name": "random", "fraction": 0.2}}
        seldom = {"evaluation": {"every": args.rounds // 10}}
        growing = small | ends | few | seldom
        after = trained(open_context(validate(growing, "benchmark"), comm))
    gathered = comm.gather_object([planned, peak, after[args.rounds // 10], after[-1]])
    if gathered is None:
        return
    print(machine())
    lines = []
    for rank, (plan, most, early, late) in enumerate(gathered):
        print(
            f"rank {rank}: W1 planned {plan / 1e6:.0f} MB, peak {most / 1e6:.0f} MB, "
            f"{most / plan - 1:+.1%} (within {WITHIN:.0%}); {args.rounds} rounds: "
            f"{early / 1e6:.1f} MB after a tenth, {late / 1e6:.1f} at the end, "
            f"{late / early - 1:+.2%} (at most {GROWTH:.0%})"
        )
        lines.append([rank, args.rounds, plan, most, early, late])
    header = ["rank", "rounds", "planned_bytes", "peak_bytes"]
    keep(args.csv, [*header, "early_bytes", "late_bytes"], lines)


if __name__ == "__main__":
    main()
