"""What a run would take: placement, bytes a round, memory and time (``--dry-run``)."""

from time import perf_counter

import numpy as np

from .algorithms import Work
from .comm import SERVER
from .console import print_split, print_table, say
from .placements import hosts
from .problem import ClientProblem
from .session import Session

TRIAL_STEPS = 5
"""Gradient steps that are timed."""


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


def print_plan(session: Session, seconds_per_sample: float) -> None:
    """Print the plan, on the server."""
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
    say(f"memory per rank, besides the libraries': {_memory(session)}")
    slowest = max(row[4] for row in rows)
    total = slowest * session.config.rounds
    say(f"expected: {slowest:.2f} s of local work a round on the busiest rank,")
    say(f"          {total / 60:.1f} min for {session.config.rounds} rounds")


def _memory(session: Session) -> str:
    """Return the bytes of the rank with most clients: data, states, model."""
    hosted = np.bincount(session.host_of, minlength=session.comm.size)
    rank = int(hosted[hosts(session.comm.size).start :].argmax())
    rank += hosts(session.comm.size).start
    here = session.host_of == rank
    groups = session.groups
    samples = np.sum(list(session.manifest.counts.values()), axis=0)
    data = states = 0
    for g, group in enumerate(groups.members):
        of_group = here & groups.clients([g])
        per_sample = session.dtype.itemsize * sum(
            int(np.prod(spec.shape)) for spec in group.inputs
        )
        data += int(samples[of_group].sum()) * per_sample
        state = group.new_client(session.algorithm).values()
        each = sum(tensor.numel() * tensor.element_size() for tensor in state)
        states += int(of_group.sum()) * each
    share = len(session.participants(0)) / session.num_clients
    buffered = 8 * session.up_length
    updates = int(np.ceil(share * hosted[rank])) * buffered
    return (
        f"data {_size(data)}, client states {_size(states)} once all have taken part, "
        f"updates of a round {_size(updates)}"
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
