"""What a run would take: placement, bytes a round, memory and time (``--dry-run``)."""

import resource
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from .algorithms import Work
from .comm import SERVER
from .console import print_split, print_table, say
from .problem import ClientProblem
from .session import Session

TRIAL_STEPS = 5
"""Gradient steps that are timed."""


class Memory(NamedTuple):
    """Bytes that a rank comes to take."""

    base: int
    """What it takes before it holds data: libraries, models, manifest."""

    data: int
    """All samples of its clients that training and evaluation look at."""

    reading: int
    """What reading its largest client takes for a moment."""

    states: int
    """States of its clients, once all have taken part."""

    updates: int
    """Its participants' updates of a round, on average."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def measure(session: Session) -> float:
    """Return this rank's seconds per training sample and pass, 0 if it hosts none."""
    trained = session.manifest.counts["train"]
    client = next((i for i in session.table.hosted if trained[i]), None)
    if client is None:
        return 0.0
    batch_size = getattr(session.algorithm, "batch_size", 0)
    problem = ClientProblem(
        session.groups.of(client).model,
        session.samples(client, "train"),
        seed=session.config.seed,
        round_index=0,
        client=client,
    )
    seconds: list[float] = []
    for batch in problem.batches("joint", Work(steps=TRIAL_STEPS + 1), batch_size):
        begin = perf_counter()
        problem.gradient("both", batch)
        seconds.append((perf_counter() - begin) / len(batch))
    return float(np.median(seconds[1:] or seconds))


def passes(session: Session, batch_size: int) -> np.ndarray:
    """Return how many samples each client's local work goes over, (m,), at most."""
    trained = session.manifest.counts["train"].astype(np.float64)
    total = np.zeros_like(trained)
    for name, work in vars(session.algorithm).items():
        # Fine-tuning is part of an evaluation, not of a round.
        if isinstance(work, Work) and not name.startswith("fine_tune"):
            if work.steps is not None:
                size = np.minimum(batch_size or trained, trained)
                total += work.steps * size
            else:
                total += (work.epochs or work.max_epochs or 1) * trained
    return total


def print_plan(
    session: Session, seconds_per_sample: float, memories: list[Memory]
) -> None:
    """Print the plan, on the server; `memories` are all ranks'."""
    m, comm = session.num_clients, session.comm
    trained = session.manifest.counts["train"]
    first = session.participants(0)
    share = len(first) / m
    work = passes(session, getattr(session.algorithm, "batch_size", 0))
    for text in session.warnings:
        say(f"note: {text}")
    print_split(session.groups.table())
    rows = []
    for rank in range(comm.size):
        here = session.host_of == rank
        role = "server" if rank == SERVER and comm.size > 1 else "clients"
        local = share * float(work[here].sum()) * seconds_per_sample
        rows.append((rank, role, int(here.sum()), int(trained[here].sum()), local))
    header = ("rank", "role", "clients", "train samples", "local s/round")
    print_table("Placement", header, [(str(r[0]), *r[1:]) for r in rows])
    down = session.down_length * session.dtype.itemsize
    up = session.up_length * session.reduction.bytes_per_element
    say(
        f"per round: {len(first)} of {m} clients (first round), broadcast "
        f"{_size(down)}, sum {_size(up)}"
    )
    most = max(memories, key=lambda memory: memory.total)
    say(f"memory per rank, at most: {_size(most.total)} ({_parts(most)})")
    slowest = max(row[4] for row in rows)
    total = slowest * session.config.rounds
    say(f"expected: {slowest:.2f} s of local work a round on the busiest rank,")
    say(f"          {total / 60:.1f} min for {session.config.rounds} rounds")


def memory(session: Session) -> Memory:
    """Return what this rank will take, given what it takes now; after `measure`."""
    here = session.host_of == session.comm.rank
    groups, counts = session.groups, session.manifest.counts
    splits = {"train", session.config.evaluation.split}
    samples = np.sum([counts[split] for split in splits], axis=0)
    largest = np.max([counts[split] for split in splits], axis=0)
    data = reading = states = 0
    for g, group in enumerate(groups.members):
        of_group = here & groups.clients([g])
        if not of_group.any():
            continue
        each = session.dtype.itemsize * sum(
            int(np.prod(spec.shape)) for spec in group.inputs
        )
        stored = sum(
            np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape))
            for spec in group.inputs
        )
        data += int(samples[of_group].sum()) * each
        reading = max(reading, int(largest[of_group].max()) * max(each, stored))
        state = group.new_client(session.algorithm).values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in state)
        states += int(of_group.sum()) * size
    share = len(session.participants(0)) / session.num_clients
    updates = int(np.ceil(share * here.sum())) * 8 * session.up_length
    return Memory(_resident() - session.cached_bytes, data, reading, states, updates)


def _resident() -> int:
    """Return the bytes that this process takes, or took at most where that is told."""
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _parts(found: Memory) -> str:
    return (
        f"libraries and models {_size(found.base)}, data {_size(found.data)} and "
        f"{_size(found.reading)} to read them, client states {_size(found.states)} "
        f"once all have taken part, updates of a round {_size(found.updates)}"
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
