"""The parts of a run on one rank: built once before the first round, then read."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256

import numpy as np
import torch
from numpy.typing import NDArray

from fedapm_mpi.aggregators import Aggregator, aggregators
from fedapm_mpi.aggregators.transforms import (
    TransformChain,
    UpdateTransform,
    transforms,
)
from fedapm_mpi.algorithms import Algorithm, ClientState, adapt
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import Config, PluginConfig
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import Samples, tensor_bytes, to_samples
from fedapm_mpi.data.staging import node_clients, rank_share, stage_shards
from fedapm_mpi.engine.device import open_device
from fedapm_mpi.engine.feature_cache import apply_constant_stages, constant_stages
from fedapm_mpi.engine.kernels import check_layers, open_on_ranks
from fedapm_mpi.errors import ConfigError, FedAPMError, WriteError
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.federation.assignment import Assignment
from fedapm_mpi.federation.builder import (
    build_plugin,
)
from fedapm_mpi.federation.client_groups import ClientGroup, ClientGroups
from fedapm_mpi.federation.federation import (
    Federation,
    build_algorithm,
    build_federation,
    schedules_dynamically,
)
from fedapm_mpi.federation.solver_builder import (
    build_solver,
    check_solver,
    solver_warnings,
)
from fedapm_mpi.models.base import Stage
from fedapm_mpi.optim.solver import SolverRules
from fedapm_mpi.placements import client_ranks
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import plugin_label, user_plugin_label
from fedapm_mpi.storage.client_states import ClientStateStore
from fedapm_mpi.storage.shared_memory import max_required_bytes, required_bytes
from fedapm_mpi.storage.tensor_store import Capacity, Storage, open_storage
from fedapm_mpi.tasks import Task
from fedapm_mpi.training.model_fingerprint import Contents, contents, same_on_all_ranks
from fedapm_mpi.training.payload import PayloadLayout
from fedapm_mpi.training.stack_rules import build_stacks
from fedapm_mpi.training.stacks import Stacks
from fedapm_mpi.utils.affinity import available_cores, max_threads_per_rank
from fedapm_mpi.utils.kernels import PORTABLE


@dataclass
class TrainingContext:
    """A rank's parts of a run, ready to train; see `open_context`."""

    config: Config
    comm: Communicator
    algorithm: Algorithm
    federation: Federation
    """The clients."""

    aggregator: Aggregator
    transforms: TransformChain
    """What an update passes through before the sum, and the sum after it."""

    solver: SolverRules
    """How clients step."""

    reader: ShardReader
    warnings: list[str] = field(default_factory=list)
    storage: Storage = field(default_factory=Storage)
    """Where states and samples are kept."""

    built: Contents = field(default_factory=dict)
    """What the models hold as they were built; see `model_fingerprint`."""

    stacks: Stacks = field(default_factory=Stacks)
    """The clients that are trained together."""

    table: ClientStateStore = field(init=False)
    """The clients' states."""

    def __post_init__(self) -> None:
        self._configured = self.algorithm
        self.table = ClientStateStore(
            self.federation.homes.clients_of(self.comm.rank),
            [partial(self.new_client, group) for group in self.groups.members],
            self.groups.of_client.tolist(),
            self.storage.states,
        )

    @property
    def groups(self) -> ClientGroups:
        """The clients' models."""
        return self.federation.groups

    @property
    def task(self) -> Task:
        """What models are trained for."""
        return self.groups.task

    @property
    def dtype(self) -> torch.dtype:
        """Of models, client states and messages."""
        dtype: torch.dtype = getattr(torch, self.config.dtype)
        return dtype

    @cached_property
    def payload(self) -> PayloadLayout:
        """Layout of what the server broadcasts and of what clients send back."""
        return payload_layout(self.config, self.algorithm, self.groups)

    @property
    def dynamic(self) -> bool:
        """Whether participants may move between the ranks of a node."""
        return schedules_dynamically(self.config, self.aggregator)

    def new_client(self, group: ClientGroup) -> ClientState:
        """Return the state of a client that has not taken part yet."""
        # With the configured penalty, also where the present one has been adapted.
        state = group.new_client(self._configured)
        return (
            state
            | self.transforms.new_client_state()
            | self.solver.new_client_state(
                self._configured.optimizer_states(), group.initial
            )
        )

    def draw(
        self, clients: NDArray[np.int64], costs: NDArray[np.int64]
    ) -> Iterator[int]:
        """Yield the clients, of those given, that this rank is to work on.

        Ranks that share a node's clients take the one with the most work left, whenever
        they are free; all must draw to the end. Others have their own clients.
        """
        tickets, home_ranks = self.storage.tickets, self.federation.home_ranks
        if tickets is None or not self.dynamic:
            yield from Assignment(clients, home_ranks[clients]).clients_of(
                self.comm.rank
            )
            return
        nodes = np.asarray(self.storage.nodes)
        here = clients[nodes[home_ranks[clients]] == nodes[self.comm.rank]]
        ordered = here[np.argsort(-costs[here], kind="stable")].tolist()
        for k in tickets.take(len(ordered)):
            yield ordered[k]

    def use_penalty(self, rho: float | None) -> None:
        """Continue with another penalty, if the algorithm has one."""
        if rho is not None and rho != self.algorithm.admm_penalty():
            self.algorithm = adapt(self.algorithm.with_penalty(rho))

    def samples(self, client: int, split: str) -> Samples:
        """Return a client's samples, read once and then kept.

        They have been through the stages of the client's model that never change.
        """
        kept = self.storage.samples.get((client, split))
        if kept is not None:
            return kept
        group = self.groups.of(client)
        stored = self.reader.read(client, split)
        samples = to_samples(stored, group.inputs, self.dtype)
        stages = self._constant_stages[int(self.groups.of_client[client])]
        samples = apply_constant_stages(stages, samples)
        with suppress(WriteError):  # without space they are read again each time
            return self.storage.samples.put((client, split), samples)
        return samples

    @cached_property
    def _constant_stages(self) -> list[list[Stage]]:
        """The stages of each group's model that its samples pass once."""
        return [constant_stages(g.model.module) for g in self.groups.members]


def open_context(
    config: Config, comm: Communicator, whole: Manifest | None = None
) -> TrainingContext:
    """Build all parts of a run; a collective call.

    What can be wrong with any of them is raised here, on every rank together. `whole`
    is the manifest of the data set, if it has been read.

    Raises
    ------
    FedAPMError
        If the configuration does not fit the data, or the data are damaged.
    """
    open_on_ranks(config.kernels, comm)
    whole = read_shared_manifest(config, comm) if whole is None else whole
    nodes = [
        node if rank in client_ranks(comm.size) else -1
        for rank, node in enumerate(comm.nodes())
    ]
    threads = _threads(config, comm, nodes)
    torch.set_num_threads(threads)
    config = dataclasses.replace(config, threads=threads)
    context = _build_collectively(config, comm, whole)
    _move_and_stage(context, whole, nodes)
    _verify_unhashed_shards(context, nodes)
    capacity = _required_capacity(context)
    _agree_on_homes(context)
    storage = open_storage(
        comm,
        nodes,
        context.federation.home_ranks,
        capacity,
        scratch=config.scratch,
        together=context.dynamic,
    )
    notes = [storage.note] if storage.note else []
    stacks, more = build_stacks(
        comm,
        context.config,
        context.algorithm,
        context.federation,
    )
    return dataclasses.replace(
        context,
        storage=storage,
        stacks=stacks,
        warnings=context.warnings + notes + more,
    )


def _build_collectively(
    config: Config, comm: Communicator, whole: Manifest
) -> TrainingContext:
    """Build what needs no device and no samples; a collective call."""
    context: TrainingContext | None = None
    error: FedAPMError | None = None
    try:
        context = build_context(config, comm, whole)
        if config.kernels == PORTABLE:
            check_layers(group.model.module for group in context.groups.members)
        context.built = contents(context.groups)
    except Exception as caught:  # whatever a user's own plug-in raises
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    assert context is not None
    differing = same_on_all_ranks(comm, context.built)
    if differing:
        context.warnings.append(differing)
    return context


def _move_and_stage(
    context: TrainingContext, whole: Manifest, nodes: list[int]
) -> None:
    """Move models to the device and shards to the node's disk; a collective call."""
    config, comm = context.config, context.comm
    error: FedAPMError | None = None
    try:
        context.groups.move(open_device(config.device, comm.rank, nodes))
        if config.stage_dir is not None:
            home_ranks = context.federation.home_ranks
            staged = stage_shards(whole, config.stage_dir, comm.rank, nodes, home_ranks)
            context.reader = ShardReader(staged)
            context.reader.trust(whole.files)  # they have been hashed
    except Exception as caught:  # whatever a user's own plug-in raises
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)  # all of a node's shards are there


def payload_layout(
    config: Config, algorithm: Algorithm, groups: ClientGroups
) -> PayloadLayout:
    """Return the layout of what is sent in a round."""
    averaged = config.buffers == "mean"
    return PayloadLayout(
        rows=algorithm.rows,
        shared_length=groups.space.size,
        buffer_length=len(groups.members[0].initial["buffers"]) if averaged else 0,
        dual_sum=config.diagnostics.dual_sum,
    )


def build_transforms(
    parts: Sequence[PluginConfig], layout: PayloadLayout
) -> TransformChain:
    """Return the configuration's update transforms.

    Raises
    ------
    ConfigError
        If a user's own cannot be built, or is no `UpdateTransform`.
    """
    members = []
    for part in parts:
        made = build_plugin(transforms, part)
        if not isinstance(made, UpdateTransform):
            msg = (
                f"{plugin_label(transforms.kind, part['name'])} returned "
                f"{type(made).__name__}; it must be, or return, an UpdateTransform of "
                "fedapm_mpi.aggregators.transforms"
            )
            raise ConfigError(msg)
        members.append((user_plugin_label(transforms.kind, part["name"]), made))
    return TransformChain(members, layout.up_length)


def _verify_unhashed_shards(context: TrainingContext, nodes: list[int]) -> None:
    """Hash the shards of an old data set before any is opened; a collective call.

    New ones have checksums that are compared as they are read. The ranks of a node
    divide its shards among them.
    """
    rank, reader = context.comm.rank, context.reader
    wanted = reader.unhashed(node_clients(rank, nodes, context.federation.home_ranks))
    error: FedAPMError | None = None
    try:
        for shard in rank_share(wanted, rank, nodes):
            reader.hash(shard)
    except FedAPMError as caught:
        error = caught
    context.comm.raise_collectively(error)
    reader.trust(wanted)


def _agree_on_homes(context: TrainingContext) -> None:
    """Refuse a user's placement that differs between ranks; a collective call."""
    what = user_plugin_label("placement", context.config.placement["name"])
    if what is None:
        return
    found = context.comm.gather_object(
        sha256(context.federation.home_ranks.tobytes()).hexdigest()
    )
    error: FedAPMError | None = None
    if found is not None and len(set(found)) > 1:
        other = next(r for r, digest in enumerate(found) if digest != found[0])
        error = ConfigError(
            f"{what} gave one placement on rank 0 and another on rank {other}; it must "
            "be a pure function of its arguments"
        )
    context.comm.raise_collectively(error)


def _threads(config: Config, comm: Communicator, nodes: list[int]) -> int:
    """Return the threads of every rank; a collective call."""
    if config.threads != "auto":
        return config.threads
    cores = comm.gather_object(available_cores())
    return comm.bcast_object(
        None if cores is None else max_threads_per_rank(cores, nodes)
    )


def read_shared_manifest(config: Config, comm: Communicator) -> Manifest:
    """Return the manifest of the whole data set; rank 0 reads it. A collective call."""
    manifest: Manifest | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            manifest = read_manifest(config.data)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return comm.bcast_object(manifest)


def build_context(
    config: Config, comm: Communicator, whole: Manifest
) -> TrainingContext:
    """Build what needs neither device nor samples nor other ranks.

    Raises
    ------
    FedAPMError
        If the configuration does not fit the data.
    """
    manifest = whole.first_clients(config.clients)
    algorithm = build_algorithm(config.algorithm)
    federation = build_federation(config, manifest, algorithm, comm.size)
    solver = build_solver(config)
    check_solver(config, solver, algorithm, federation.groups)
    aggregator = build_plugin(aggregators, config.aggregator)
    plugin_checks.check_methods(
        "aggregator", config.aggregator, aggregator, "sum", "bytes_per_element"
    )
    layout = payload_layout(config, algorithm, federation.groups)
    advice = algorithm.warnings(federation.weights.tolist())
    advice += solver_warnings(config, solver)
    return TrainingContext(
        config=config,
        comm=comm,
        algorithm=algorithm,
        federation=federation,
        aggregator=aggregator,
        transforms=build_transforms(config.update_transforms, layout),
        solver=solver,
        reader=ShardReader(whole),
        warnings=federation.warnings(comm.size) + advice,
    )


def _required_capacity(context: TrainingContext) -> Capacity:
    """Check the hosted clients' data; a collective call.

    Returns
    -------
    Capacity
        What the clients' states and samples may take.
    """
    capacity: Capacity | None = None
    error: FedAPMError | None = None
    try:
        context.reader.check(context.table.hosted)
        capacity = _capacity(context)
    except FedAPMError as caught:
        error = caught
    context.comm.raise_collectively(error)
    assert capacity is not None
    return capacity


def _capacity(context: TrainingContext) -> Capacity:
    """Return what the clients' states and samples may take."""
    groups, counts = context.groups, context.federation.manifest.counts
    states = np.zeros(context.federation.num_clients, dtype=np.int64)
    splits: set[str] = {"train", context.config.evaluation.split}
    samples = {split: np.zeros_like(states) for split in sorted(splits)}
    for g, group in enumerate(groups.members):
        members = np.flatnonzero(groups.clients([g]))
        states[members] = required_bytes(context.new_client(group))
        data = context.federation.manifest
        each = tensor_bytes(group.inputs, data.target, context.dtype, data.weights)
        each += [8 for spec in group.inputs if spec.ragged]  # lengths
        for split, sizes in samples.items():
            sizes[members] = max_required_bytes(each, counts[split][members])
    chosen = len(context.federation.participants(0)) * context.config.rounds
    return Capacity(states, samples, min(1.0, chosen / context.federation.num_clients))
