"""Predict what a run takes: placement, bytes a round, memory, time (``--dry-run``)."""

from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.comm import SERVER
from fedapm_mpi.data.samples import Samples, tensor_bytes
from fedapm_mpi.engine.stacked_model import Pool
from fedapm_mpi.federation.assignment import Assignment, assign
from fedapm_mpi.federation.federation import TRAINING_COST
from fedapm_mpi.optim.solver import STEPS_TAKEN
from fedapm_mpi.tracking.tables import print_parameter_table
from fedapm_mpi.training.client import open_client
from fedapm_mpi.training.context import TrainingContext
from fedapm_mpi.training.outputs import describe_units
from fedapm_mpi.training.stacks import GroupStack
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.system_info import resident_memory
from fedapm_mpi.utils.terminal import echo, print_table

log = get_logger(__name__)

TRIAL_STEPS = 5
"""Gradient steps that are timed."""

SAMPLED_ROUNDS = 100
"""Most rounds whose participants are drawn for the prediction."""


class Memory(NamedTuple):
    """Bytes that a rank will take."""

    base: int
    """What it takes before it holds data: libraries, models, manifest."""

    data: int
    """All samples that it trains or evaluates on."""

    reading: int
    """What reading its largest client takes for a short time."""

    states: int
    """States that are no longer the initial one, at the end."""

    updates: int
    """Updates of its participants, in one of the first rounds where it has most."""

    optimizer: int = 0
    """The optimizer's states of the clients that it is training at a time, besides kept
    ones."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self)


def measure(context: TrainingContext) -> float:
    """Return this rank's seconds per training sample and pass, 0 if it hosts none."""
    trained = context.federation.manifest.counts["train"]
    client = next((i for i in context.table.hosted if trained[i]), None)
    if client is None:
        return 0.0
    batch_size = context.algorithm.mini_batch_size() or 0
    groups = context.groups
    group = groups.of(client)
    stack = context.stacks.of(int(groups.of_client[client]))
    if stack is not None:
        return _measure_stack(stack, context.samples(client, "train"), batch_size)
    problem = open_client(
        context,
        client,
        group.new_client(context.algorithm),
        context.payload.initial(groups.initial_shared(), group.initial["buffers"]),
        purpose="batches",
        round_index=0,
    ).objective
    seconds: list[float] = []
    for batch in problem.batches(
        "joint", LocalBudget(steps=TRIAL_STEPS + 1), batch_size
    ):
        begin = perf_counter()
        problem.gradient("both", batch)
        _ = problem.loss_sum  # waits for a GPU
        seconds.append((perf_counter() - begin) / len(batch))
    return float(np.median(seconds[1:] or seconds))


def _measure_stack(group: GroupStack, samples: Samples, batch_size: int) -> float:
    """Return the seconds per training sample of a full stack."""
    stack, width = group.stack, group.width(batch_size)
    lanes = range(stack.size)
    pool = Pool(dict.fromkeys(lanes, samples))
    rows = torch.arange(min(width, len(samples.targets)))
    batches = dict.fromkeys(lanes, rows)
    seconds = []
    for _ in range(TRIAL_STEPS + 1):
        begin = perf_counter()
        stack.gradients("both", pool, batches, width)
        seconds.append((perf_counter() - begin) / (stack.size * len(rows)))
    return float(np.median(seconds[1:]))


def print_plan(
    context: TrainingContext, seconds_per_sample: float, memories: list[Memory]
) -> None:
    """Print the plan, on the server; `memories` are all ranks'."""
    m, comm = context.federation.num_clients, context.comm
    trained = context.federation.manifest.counts["train"]
    first = context.federation.participants(0)
    loads = sampled_loads(context) * seconds_per_sample
    for text in context.warnings:
        log.info("%s", text)
    print_parameter_table(context.groups.table())
    unit = describe_units(context)
    if unit:
        echo(unit)
    rows = []
    for rank in range(comm.size):
        here = context.federation.home_ranks == rank
        role = "server" if rank == SERVER and comm.size > 1 else "clients"
        local = float(loads[:, rank].mean())
        rows.append((rank, role, int(here.sum()), int(trained[here].sum()), local))
    header = ("rank", "role", "clients", "train samples", "local s/round")
    print_table("Placement", header, [(str(r[0]), *r[1:]) for r in rows])
    down = context.payload.down_length * context.dtype.itemsize
    up = context.payload.up_length * context.aggregator.bytes_per_element
    echo(
        f"per round: {len(first)} of {m} clients (first round), broadcast "
        f"{_size(down)}, sum {_size(up)}"
    )
    most = max(memories, key=lambda memory: memory.total)
    echo(f"memory per rank, at most: {_size(most.total)} ({_parts(most)})")
    slowest = float(loads.max(axis=1).mean())
    total = slowest * context.config.rounds
    echo(f"expected: {slowest:.2f} s of local work a round on the busiest rank,")
    echo(f"          {total / 60:.1f} min for {context.config.rounds} rounds")
    if fine_tunes(context):
        seconds = evaluation_loads(context).max() / TRAINING_COST * seconds_per_sample
        rounds, every = context.config.rounds, context.config.evaluation.every
        times = len({*range(0, rounds + 1, every), rounds})
        text = f"{seconds:.2f} s for each of {times} evaluations, with fine-tuning"
        echo(f"          {text}")


def fine_tunes(context: TrainingContext) -> bool:
    """Return whether models are trained before they are evaluated."""
    asked = context.config.evaluation.fine_tune is not None
    return asked or bool(context.algorithm.fine_tuning_budgets())


def evaluation_loads(context: TrainingContext) -> NDArray[np.int64]:
    """Return each rank's work in an evaluation of all that may be, (size,).

    In samples evaluated, of which `TRAINING_COST` are as much work as one trained on.
    """
    costs, size = context.federation.evaluation_costs, context.comm.size
    clients = context.federation.evaluated(1)
    return predicted_assignment(context, clients, costs).loads(costs, size)


def sampled_loads(context: TrainingContext) -> NDArray[np.int64]:
    """Return each rank's local work in the first rounds, in samples passed, (t, size).

    The participants are those that the run will draw.
    """
    costs, size = context.federation.training_costs, context.comm.size
    return np.array([one.loads(costs, size) for one in _sampled(context)])


def _sampled(context: TrainingContext) -> list[Assignment]:
    rounds = range(min(context.config.rounds, SAMPLED_ROUNDS))
    costs = context.federation.training_costs
    return [
        predicted_assignment(context, context.federation.participants(t), costs)
        for t in rounds
    ]


def predicted_assignment(
    context: TrainingContext, clients: NDArray[np.int64], costs: NDArray[np.int64]
) -> Assignment:
    """Return which rank will work on which client, if all ranks are equally fast."""
    nodes = context.storage.nodes
    if nodes is None or not context.dynamic:
        return Assignment(clients, context.federation.home_ranks[clients])
    return assign(clients, costs, context.federation.home_ranks, nodes)


class ResidentClients(NamedTuple):
    """Which clients a rank will hold, (m,) each."""

    states: NDArray[np.bool_]
    """Those whose state is not the initial one, and which it trains or hosts."""

    samples: dict[str, NDArray[np.bool_]]
    """By split, those whose samples it reads."""


def resident_clients(context: TrainingContext) -> ResidentClients:
    """Return the clients that this rank will hold; long runs are extrapolated."""
    rank, config, m = context.comm.rank, context.config, context.federation.num_clients
    drawn = _sampled(context)
    materialized = np.zeros(m, dtype=np.bool_)
    own = np.zeros(m, dtype=np.bool_)
    for one in drawn:
        materialized[one.clients] = True
        own[one.clients_of(rank)] = True
    hosted = context.federation.home_ranks == rank
    if config.rounds > len(drawn):  # sooner or later every client
        nodes = np.asarray(context.storage.nodes or range(context.comm.size))
        own = nodes[context.federation.home_ranks] == nodes[rank]
        materialized[:] = True
    tested = np.zeros(m, dtype=np.bool_)
    if config.evaluation.clients == "all":
        everyone = np.arange(m)
        evaluated = predicted_assignment(
            context, everyone, context.federation.evaluation_costs
        )
        tested[evaluated.clients_of(rank)] = True
    else:
        tested = own.copy()
    trained = own.copy()
    if context.algorithm.has_personal_model or fine_tunes(context):
        trained |= tested
    if config.diagnostics.lagrangian:
        trained |= hosted
    samples = {"train": trained}
    split = config.evaluation.split
    samples[split] = tested | samples.get(split, False)
    return ResidentClients(materialized & (own | hosted), samples)


def memory(context: TrainingContext) -> Memory:
    """Return what this rank will take, given what it takes now; after `measure`.

    What ranks of a node share counts for each of them.
    """
    groups, counts = context.groups, context.federation.manifest.counts
    found = resident_clients(context)
    most = max(
        one.counts(context.comm.size)[context.comm.rank] for one in _sampled(context)
    )
    data = reading = states = 0
    for g, group in enumerate(groups.members):
        members = groups.clients([g])
        own = context.federation.manifest
        each = sum(tensor_bytes(group.inputs, own.target, context.dtype, own.weights))
        stored = sum(spec.stored_bytes for spec in group.inputs)
        for split, whose in found.samples.items():
            sizes = counts[split][members & whose]
            data += int(sizes.sum()) * each
            reading = max(reading, int(sizes.max(initial=0)) * max(each, stored))
        state = context.new_client(group).values()
        size = sum(tensor.numel() * tensor.element_size() for tensor in state)
        states += int((members & found.states).sum()) * size
    updates = most * 8 * context.payload.up_length
    base = resident_memory() - samples_read(context)
    optimizer = optimizer_bytes(context) * context.stacks.size
    return Memory(base, data, reading, states, updates, optimizer)


def optimizer_bytes(context: TrainingContext) -> int:
    """Return the bytes of the largest optimizer state of a phase.

    A user's own optimizer may hold what has no known size; that counts as 0.
    """
    rules = replace(context.solver, keep=True)
    found = [0]
    for group in context.groups.members:
        for phase in context.algorithm.optimizer_states():
            with suppress(Exception):  # whatever a user's own does
                state = rules.new_client_state([phase], group.initial)
                found.append(
                    sum(
                        tensor.numel() * tensor.element_size()
                        for name, tensor in state.items()
                        if not name.endswith(STEPS_TAKEN)
                    )
                )
    return max(found)


def samples_read(context: TrainingContext) -> int:
    """Return the bytes of the samples that this rank has read by now."""
    splits = {"train", context.config.evaluation.split}
    found = [
        context.storage.samples.get((client, split))
        for client in context.table.hosted
        for split in splits
    ]
    held = [x for own in found if own for x in (*own.inputs, own.targets)]
    return sum(x.numel() * x.element_size() for x in held)


def _parts(found: Memory) -> str:
    shown = (
        f"libraries and models {_size(found.base)}, data {_size(found.data)} and "
        f"{_size(found.reading)} to read them, client states {_size(found.states)} "
        f"at the end, updates of a round {_size(found.updates)}"
    )
    if found.optimizer:
        shown += f", optimizer of clients in training {_size(found.optimizer)}"
    return shown


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
