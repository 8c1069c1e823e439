"""Peak memory of a run beside what ``--dry-run`` says, and its growth over rounds.

    python -m benchmarks.memory [--data FOLDER] [--rounds 1000] [--csv FILE]

In one process: W1 for two rounds, after which a third of the clients has been trained
and all have been read; then so many rounds of clients with few samples, where memory
after a tenth of them is compared with that at the end. Needs Linux.
"""

import argparse
import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import Serial
from fedapm_mpi.configfile import validate
from fedapm_mpi.experiment import run
from fedapm_mpi.plan import measure, memory
from fedapm_mpi.recorder import Record, Recorder
from fedapm_mpi.session import Session, open_session
from fedapm_mpi.stopping import Stop

from . import startup, w1
from .telling import keep, machine

WITHIN, GROWTH = 0.15, 0.01
"""Most that the peak may differ from the plan, and memory may grow, as shares."""


def opened(values: dict[str, Any]) -> Session:
    """Return a session of a configuration in this process."""
    return open_session(validate(values, "benchmark"), Serial())


def trained(session: Session) -> list[int]:
    """Train; return the resident bytes after each round."""
    found: list[int] = []

    def tell(record: Record) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        found.append(pages * resource.getpagesize())

    with tempfile.TemporaryDirectory() as folder:
        run(session, Recorder(Path(folder)), identity={}, tell=tell, stop=Stop())
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        small = startup.configuration(Path(folder))
        ends = {"rounds": args.rounds, "checkpoint": {"every": args.rounds}}
        few = {"participation": {"name": "random", "fraction": 0.2}}
        seldom = {"evaluation": {"every": args.rounds // 10}}
        after = trained(opened(small | ends | few | seldom))
    early, late = after[args.rounds // 10], after[-1]
    print(
        f"{args.rounds} rounds: {early / 1e6:.1f} MB after a tenth, {late / 1e6:.1f} "
        f"at the end, {late / early - 1:+.2%} (at most {GROWTH:.0%})"
    )
    values = w1.configuration(w1.prepare(args.data, "W1"), "fedapm", 2)
    values["evaluation"] = {"every": 2}
    session = opened(values)
    measure(session)
    planned = memory(session)
    trained(session)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"W1: planned {planned.total / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB, "
        f"{peak / planned.total - 1:+.1%} (within {WITHIN:.0%})"
    )
    header = ["rounds", "early_bytes", "late_bytes", "planned_bytes", "peak_bytes"]
    keep(args.csv, header, [[args.rounds, early, late, planned.total, peak]])


if __name__ == "__main__":
    main()
