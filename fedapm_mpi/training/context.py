"""Everything a rank needs before the first round: built once, then read."""

import dataclasses
import math
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
from fedapm_mpi.algorithms import Algorithm, ClientState, adapt, algorithms
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import Config, PluginConfig
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.samples import Samples, to_samples
from fedapm_mpi.data.staging import node_clients, rank_share, stage_shards
from fedapm_mpi.engine.device import open_device
from fedapm_mpi.engine.feature_cache import apply_constant_stages, constant_stages
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.federation.assignment import Assignment, samples_processed
from fedapm_mpi.federation.builder import (
    build_plugin,
    check_diagnostics,
    check_evaluation,
)
from fedapm_mpi.federation.client_groups import ClientGroup, ClientGroups, build_groups
from fedapm_mpi.federation.small_batches import check_batches
from fedapm_mpi.models.base import Stage
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.participation import Participation, participation
from fedapm_mpi.placements import client_ranks, placements
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import plugin_label, user_plugin_label
from fedapm_mpi.storage.client_states import ClientStateStore
from fedapm_mpi.storage.shared_memory import max_required_bytes, required_bytes
from fedapm_mpi.storage.tensor_store import Capacity, Storage, open_storage
from fedapm_mpi.tasks import Task
from fedapm_mpi.training import plugin_checks as ownchecks
from fedapm_mpi.training.model_fingerprint import Contents, contents, same_on_all_ranks
from fedapm_mpi.training.payload import PayloadLayout
from fedapm_mpi.utils.affinity import available_cores, max_threads_per_rank
from fedapm_mpi.utils.atomic_io import WriteError
from fedapm_mpi.utils.rng import generator

MANY_CLIENTS = 10_000
"""Clients a rank from which on residuals in every round take a noticeable time."""


@dataclass
class TrainingContext:
    """A run's parts, ready to train; see `open_context`."""

    config: Config
    comm: Communicator
    manifest: Manifest
    algorithm: Algorithm
    participation: Participation
    reduction: Aggregator
    transforms: TransformChain
    """What an update passes through before the sum, and the sum after it."""

    groups: ClientGroups
    """The clients' models, and what of the shared vector each holds."""

    home_ranks: NDArray[np.int64]
    """(m,) rank on which each client lives."""

    weights: NDArray[np.float64]
    """(m,) client weights alpha_i; they sum to 1."""

    reader: ShardReader
    warnings: list[str] = field(default_factory=list)
    storage: Storage = field(default_factory=Storage)
    """Where states and samples are kept."""

    built: Contents = field(default_factory=dict)
    """What the models hold as they were built; see `builtmodel`."""

    table: ClientStateStore = field(init=False)
    """The clients' states."""

    def __post_init__(self) -> None:
        self.table = ClientStateStore(
            self.homes.clients_of(self.comm.rank),
            [partial(self.new_client, group) for group in self.groups.members],
            self.groups.of_client.tolist(),
            self.storage.states,
        )

    @property
    def num_clients(self) -> int:
        """All clients, m."""
        return self.manifest.num_clients

    @property
    def num_classes(self) -> int:
        """Classes of the labels, K."""
        return len(self.manifest.classes)

    @property
    def task(self) -> Task:
        """What models are trained for."""
        return self.groups.task

    @property
    def size(self) -> int:
        """Length d of the server's shared vector."""
        return self.groups.space.size

    @property
    def dtype(self) -> torch.dtype:
        """Of models, client states and messages."""
        dtype: torch.dtype = getattr(torch, self.config.dtype)
        return dtype

    def new_client(self, group: ClientGroup) -> ClientState:
        """Return the state of a client that has not taken part yet."""
        return group.new_client(self.algorithm) | self.transforms.new_client_state()

    @property
    def averages_buffers(self) -> bool:
        """Whether floating buffers are replaced by the participants' mean."""
        return self.config.buffers == "mean"

    @cached_property
    def payload(self) -> PayloadLayout:
        """Layout of what the server broadcasts and of what clients send back."""
        return payload_layout(self.config, self.algorithm, self.groups)

    def participants(self, round_index: int) -> NDArray[np.int64]:
        """Return the participants of a round, the same on every rank."""
        rng = generator(self.config.seed, "participants", round_index)
        return ownchecks.check_participants(
            self.config.participation, self.participation, self.num_clients, rng
        )

    def evaluated(self, rounds: int) -> NDArray[np.int64]:
        """Return the clients that are evaluated after so many rounds; maybe none."""
        if self.config.evaluation.clients == "all":
            return np.arange(self.num_clients)
        return self.participants(rounds - 1) if rounds else np.zeros(0, np.int64)

    @cached_property
    def homes(self) -> Assignment:
        """All clients, each with the rank on which it lives."""
        return Assignment(np.arange(self.num_clients), self.home_ranks)

    @cached_property
    def _entrances(self) -> list[list[Stage]]:
        """Of each group what its samples go through once; see `constant_stages`."""
        return [constant_stages(g.model.module) for g in self.groups.members]

    @cached_property
    def training_costs(self) -> NDArray[np.int64]:
        """Expected work of each client in a round, in samples passed, (m,)."""
        trained = self.manifest.counts["train"]
        costs = samples_processed(
            self.algorithm.local_budgets(),
            self.algorithm.mini_batch_size(),
            trained,
            batching=self._batching,
        )
        return costs if costs.any() else trained

    @cached_property
    def evaluation_costs(self) -> NDArray[np.int64]:
        """Expected work of each client in an evaluation, in samples passed, (m,)."""
        trained = self.manifest.counts["train"]
        tuning = samples_processed(
            self.algorithm.fine_tuning_budgets(),
            self.algorithm.mini_batch_size(),
            trained,
            batching=self._batching,
        )
        # A sample that is trained on takes about three times the work.
        return self.manifest.counts[self.config.evaluation.split] + 3 * tuning

    @property
    def _batching(self) -> Batching:
        return Batching(self.config.last_batch)

    def draw(
        self, clients: NDArray[np.int64], costs: NDArray[np.int64]
    ) -> Iterator[int]:
        """Yield those of the clients that this rank is to work on.

        Ranks that share a node's clients take the one with the most work left, whenever
        they are free; all must draw to the end. Others have those that live with them.
        """
        turns = self.storage.tickets
        if turns is None or not self.dynamic:
            yield from Assignment(clients, self.home_ranks[clients]).clients_of(
                self.comm.rank
            )
            return
        nodes = np.asarray(self.storage.nodes)
        here = clients[nodes[self.home_ranks[clients]] == nodes[self.comm.rank]]
        ordered = here[np.argsort(-costs[here], kind="stable")].tolist()
        for k in turns.take(len(ordered)):
            yield ordered[k]

    @property
    def dynamic(self) -> bool:
        """Whether work goes to any rank of a node; only sums in any order allow it."""
        return (
            isinstance(self.reduction, Aggregator)
            and self.reduction.any_order
            and self.config.scheduling == "dynamic"
        )

    def adapt(self, rho: float | None) -> None:
        """Go on with another penalty, where the algorithm's adapts."""
        if rho is not None and rho != self.algorithm.admm_penalty():
            self.algorithm = adapt(self.algorithm.with_penalty(rho))

    def load(self, client: int) -> PartitionedModel:
        """Return the live model of a client, set to its own blocks and buffers."""
        model, state = self.groups.of(client).model, self.table.peek(client)
        model.shared.copy_(state["shared"])
        model.personal.copy_(state["personal"])
        if "buffers" in state or "counters" in state:
            none = torch.zeros(0)
            model.write_buffers(state.get("buffers", none), state.get("counters", none))
        return model

    def samples(self, client: int, split: str) -> Samples:
        """Return a client's samples, read once and then kept.

        They have been through those stages of the client's model that never change.
        """
        kept = self.storage.samples.get((client, split))
        if kept is not None:
            return kept
        group = self.groups.of(client)
        stored = self.reader.read(client, split)
        samples = to_samples(stored, group.inputs, self.dtype)
        ahead = self._entrances[int(self.groups.of_client[client])]
        samples = apply_constant_stages(ahead, samples)
        with suppress(WriteError):  # without room they are read anew each time
            return self.storage.samples.put((client, split), samples)
        return samples


def open_context(config: Config, comm: Communicator) -> TrainingContext:
    """Build all parts of a run; a collective call.

    What can be wrong with any of them is raised here, on every rank together.

    Raises
    ------
    FedAPMError
        If the configuration does not fit the data, or the data are damaged.
    """
    session: TrainingContext | None = None
    error: FedAPMError | None = None
    whole = _shared_manifest(config, comm)
    nodes = [
        node if rank in client_ranks(comm.size) else -1
        for rank, node in enumerate(comm.nodes())
    ]
    threads = _threads(config, comm, nodes)
    torch.set_num_threads(threads)
    config = dataclasses.replace(config, threads=threads)
    try:
        session = _build(config, comm, whole)
        session.built = contents(session.groups)
    except Exception as caught:  # whatever a user's own part raises
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    assert session is not None
    differing = same_on_all_ranks(comm, session.built)
    if differing:
        session.warnings.append(differing)
    try:
        session.groups.move(open_device(config.device, comm.rank, nodes))
        if config.stage_dir is not None:
            staged = stage_shards(
                whole, config.stage_dir, comm.rank, nodes, session.home_ranks
            )
            session.reader = ShardReader(staged)
            session.reader.trust(whole.files)  # they have been hashed
    except Exception as caught:  # whatever a user's own part raises
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)  # all of a node's shards are there
    _verify_unhashed_shards(session, nodes)
    needed: Capacity | None = None
    try:
        session.reader.check(session.table.hosted)
        needed = _required_capacity(session)
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)
    assert needed is not None
    _agree_on_homes(session)
    storage = open_storage(
        comm,
        nodes,
        session.home_ranks,
        needed,
        scratch=config.scratch,
        together=session.dynamic,
    )
    notes = [storage.note] if storage.note else []
    return dataclasses.replace(
        session, storage=storage, warnings=session.warnings + notes
    )


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


def _verify_unhashed_shards(session: TrainingContext, nodes: list[int]) -> None:
    """Hash the shards of an old data set before any is opened; a collective call.

    New ones have checksums that are compared as they are read. The ranks of a node
    divide its shards among them.
    """
    rank, reader = session.comm.rank, session.reader
    wanted = reader.unhashed(node_clients(rank, nodes, session.home_ranks))
    error: FedAPMError | None = None
    try:
        for shard in rank_share(wanted, rank, nodes):
            reader.hash(shard)
    except FedAPMError as caught:
        error = caught
    session.comm.raise_collectively(error)
    reader.trust(wanted)


def _agree_on_homes(session: TrainingContext) -> None:
    """Refuse an own placement that is not the same on every rank; collective."""
    what = user_plugin_label("placement", session.config.placement["name"])
    if what is None:
        return
    found = session.comm.gather_object(sha256(session.home_ranks.tobytes()).hexdigest())
    error: FedAPMError | None = None
    if found is not None and len(set(found)) > 1:
        other = next(r for r, digest in enumerate(found) if digest != found[0])
        error = ConfigError(
            f"{what} gave one placement on rank 0 and another on rank {other}; it must "
            "be a pure function of its arguments"
        )
    session.comm.raise_collectively(error)


def _threads(config: Config, comm: Communicator, nodes: list[int]) -> int:
    """Return the threads of every rank; a collective call."""
    if config.threads != "auto":
        return config.threads
    cores = comm.gather_object(available_cores())
    return comm.bcast_object(
        None if cores is None else max_threads_per_rank(cores, nodes)
    )


def _shared_manifest(config: Config, comm: Communicator) -> Manifest:
    manifest: Manifest | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            manifest = read_manifest(config.data)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    return comm.bcast_object(manifest)


def _build(config: Config, comm: Communicator, whole: Manifest) -> TrainingContext:
    manifest = whole.first_clients(config.clients)
    made = build_plugin(algorithms, config.algorithm)
    ownchecks.check_algorithm(config.algorithm, made)
    algorithm = adapt(made)
    chooser: Participation = build_plugin(participation, config.participation)
    ownchecks.check_methods(
        "participation", config.participation, chooser, "check", "choose"
    )
    chooser.check(manifest.num_clients)
    check_evaluation(config, manifest, algorithm)
    groups = build_groups(config, manifest, algorithm.sharing)
    check_batches(groups, manifest, algorithm)
    states = [group.new_client(algorithm) for group in groups.members]
    for group, state in zip(groups.members, states, strict=True):
        sizes = (len(group.initial[name]) for name in ("shared", "personal"))
        ownchecks.check_state(config.algorithm, state, *sizes)
    check_diagnostics(config, algorithm, states[0])
    weights = client_weights(config, manifest)
    advice = algorithm.warnings(weights.tolist())
    host_of = place(config.placement, manifest, comm.size)
    reduction = build_plugin(aggregators, config.aggregator)
    ownchecks.check_methods(
        "aggregator", config.aggregator, reduction, "sum", "bytes_per_element"
    )
    return TrainingContext(
        config=config,
        comm=comm,
        manifest=manifest,
        algorithm=algorithm,
        participation=chooser,
        reduction=reduction,
        transforms=build_transforms(
            config.update_transforms, payload_layout(config, algorithm, groups)
        ),
        groups=groups,
        home_ranks=host_of,
        weights=weights,
        reader=ShardReader(whole),
        warnings=_warnings(config, manifest, comm.size) + advice,
    )


def _required_capacity(session: TrainingContext) -> Capacity:
    """Return what the clients' states and samples may take."""
    groups, counts = session.groups, session.manifest.counts
    states = np.zeros(session.num_clients, dtype=np.int64)
    splits: set[str] = {"train", session.config.evaluation.split}
    samples = {split: np.zeros_like(states) for split in sorted(splits)}
    for g, group in enumerate(groups.members):
        members = np.flatnonzero(groups.clients([g]))
        states[members] = required_bytes(session.new_client(group))
        each = [math.prod(spec.shape) * session.dtype.itemsize for spec in group.inputs]
        each += [8 for spec in group.inputs if spec.ragged]  # lengths
        for split, sizes in samples.items():
            sizes[members] = max_required_bytes([*each, 8], counts[split][members])
    chosen = len(session.participants(0)) * session.config.rounds
    return Capacity(states, samples, min(1.0, chosen / session.num_clients))


def place(placement: PluginConfig, manifest: Manifest, size: int) -> NDArray[np.int64]:
    """Return the rank on which each client lives, (m,)."""
    ranks = client_ranks(size)
    trained = manifest.counts["train"]
    chosen = build_plugin(placements, placement, trained, len(ranks))
    what = plugin_label("placement", placement["name"])
    return (
        ownchecks.check_placement(what, chosen, manifest.num_clients, len(ranks))
        + ranks.start
    )


def client_weights(config: Config, manifest: Manifest) -> NDArray[np.float64]:
    """Return the clients' weights alpha_i, (m,): 1/m each, or n_i/n."""
    m = manifest.num_clients
    if config.client_weights == "uniform":
        return np.full(m, 1 / m)
    counts = manifest.counts["train"]
    total = int(counts.sum())
    if total == 0:
        msg = f"{manifest.directory}: no client has any training sample"
        raise DataError(msg)
    weights: NDArray[np.float64] = counts / total
    return weights


def _warnings(config: Config, manifest: Manifest, size: int) -> list[str]:
    found = []
    m, ranks = manifest.num_clients, len(client_ranks(size))
    if m // ranks >= MANY_CLIENTS and config.diagnostics.every == 1:
        found.append(
            f"{m // ranks} clients a rank are looked at in every round for residuals; "
            "diagnostics.every: 10 looks in every tenth"
        )
    if ranks > m:
        found.append(f"{ranks} ranks host clients but there are {m}: {ranks - m} idle")
    for split, remedy in (
        ("train", "they take no local step"),
        (config.evaluation.split, "they are left out of the figures"),
    ):
        empty = int((manifest.counts[split] == 0).sum())
        if empty:
            found.append(f"{empty} of {m} clients have no {split} samples: {remedy}")
    return found
