"""The clients of a run: their data, models, weights, participation and ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.aggregators import Aggregator
from fedapm_mpi.algorithms import Algorithm, LocalBudget, adapt, algorithms
from fedapm_mpi.config.schema import Config, PluginConfig
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import DataError
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.federation.assignment import Assignment, samples_processed
from fedapm_mpi.federation.builder import (
    build_plugin,
    check_diagnostics,
    check_evaluated_blocks,
    check_evaluation,
    fine_tuning_batch_size,
)
from fedapm_mpi.federation.client_groups import ClientGroups, build_groups
from fedapm_mpi.federation.small_batches import check_batches
from fedapm_mpi.federation.task_builder import targets_of
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.participation import Participation, participation
from fedapm_mpi.placements import client_ranks, placements
from fedapm_mpi.plugins.names import plugin_label
from fedapm_mpi.tasks import Targets
from fedapm_mpi.utils.rng import Purpose, generator

MANY_CLIENTS = 10_000
"""Clients a rank from which on residuals in every round take a noticeable time."""

TRAINING_COST = 3
"""Work of a sample that is trained on, in samples that are evaluated."""


@dataclass(frozen=True)
class Federation:
    """The clients of a run; see `build_federation`."""

    config: Config
    manifest: Manifest
    groups: ClientGroups
    """The clients' models, and what of the shared vector each holds."""

    scheme: Participation
    """How each round's participants are chosen."""

    weights: NDArray[np.float64]
    """(m,) client weights alpha_i; they sum to 1."""

    home_ranks: NDArray[np.int64]
    """(m,) rank on which each client lives."""

    training_costs: NDArray[np.int64]
    """(m,) expected work of each client in a round, in samples passed."""

    evaluation_costs: NDArray[np.int64]
    """(m,) expected work of each client in an evaluation, in samples passed."""

    @property
    def num_clients(self) -> int:
        """All clients, m."""
        return self.manifest.num_clients

    @cached_property
    def targets(self) -> Targets:
        """What the data set says of the targets of its samples."""
        return targets_of(self.manifest)

    @cached_property
    def homes(self) -> Assignment:
        """All clients, each with the rank on which it lives."""
        return Assignment(np.arange(self.num_clients), self.home_ranks)

    def participants(self, round_index: int) -> NDArray[np.int64]:
        """Return the participants of a round, (k,) ascending, the same on every rank.

        Raises
        ------
        PluginError
            If a user's own scheme fails, or returns something else.
        """
        rng = generator(self.config.seed, Purpose.PARTICIPANTS, round_index)
        return plugin_checks.check_participants(
            self.config.participation, self.scheme, self.num_clients, rng
        )

    def evaluated(self, rounds: int) -> NDArray[np.int64]:
        """Return the clients that are evaluated after `rounds` rounds; maybe none."""
        if self.config.evaluation.clients == "all":
            return np.arange(self.num_clients)
        return self.participants(rounds - 1) if rounds else np.zeros(0, np.int64)

    def warnings(self, size: int) -> list[str]:
        """Return one sentence for each thing to think over on `size` ranks."""
        return _warnings(self.config, self.manifest, size)


def build_federation(
    config: Config, manifest: Manifest, algorithm: Algorithm, size: int
) -> Federation:
    """Build the clients of a run, without opening their samples.

    Parameters
    ----------
    config
        The experiment.
    manifest
        The data of the run's clients.
    algorithm
        What they are trained by.
    size
        Ranks of the run.

    Raises
    ------
    FedAPMError
        If the configuration does not fit the data, or a user's own plug-in fails.
    """
    scheme: Participation = build_plugin(participation, config.participation)
    plugin_checks.check_methods(
        "participation", config.participation, scheme, "check", "choose"
    )
    scheme.check(manifest.num_clients)
    check_evaluation(config, manifest, algorithm)
    takes_empty = bool(algorithm.trained_blocks())
    groups = build_groups(config, manifest, algorithm.sharing, takes_empty=takes_empty)
    check_evaluated_blocks(config, [group.model for group in groups.members])
    check_batches(groups, manifest, algorithm.mini_batch_size())
    if config.evaluation.fine_tune is not None:
        tuned_by = fine_tuning_batch_size(config, algorithm)
        check_batches(groups, manifest, tuned_by, "evaluation.fine_tune.batch_size")
    states = [group.new_client(algorithm) for group in groups.members]
    for group, state in zip(groups.members, states, strict=True):
        sizes = (len(group.initial[name]) for name in ("shared", "personal"))
        plugin_checks.check_state(config.algorithm, state, *sizes)
    check_diagnostics(config, algorithm, states[0], shared=groups.space.size)
    training, evaluation = _costs(config, manifest, algorithm, groups)
    return Federation(
        config=config,
        manifest=manifest,
        groups=groups,
        scheme=scheme,
        weights=client_weights(config, manifest),
        home_ranks=place(config.placement, manifest, size),
        training_costs=training,
        evaluation_costs=evaluation,
    )


def build_algorithm(part: PluginConfig) -> Algorithm:
    """Return the algorithm of a configuration, checked where it is the user's own.

    Raises
    ------
    ConfigError
        If it cannot be built, or lacks what every algorithm has.
    """
    made = build_plugin(algorithms, part)
    plugin_checks.check_algorithm(part, made)
    return adapt(made)


def schedules_dynamically(config: Config, aggregator: Aggregator) -> bool:
    """Return whether participants may move between the ranks of a node.

    Only sums that are the same in any order allow it.
    """
    return (
        isinstance(aggregator, Aggregator)
        and aggregator.any_order
        and config.scheduling == "dynamic"
    )


def place(placement: PluginConfig, manifest: Manifest, size: int) -> NDArray[np.int64]:
    """Return the rank on which each client lives, (m,)."""
    ranks = client_ranks(size)
    trained = manifest.counts["train"]
    chosen = build_plugin(placements, placement, trained, len(ranks))
    what = plugin_label("placement", placement["name"])
    return (
        plugin_checks.check_placement(what, chosen, manifest.num_clients, len(ranks))
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


def _costs(
    config: Config, manifest: Manifest, algorithm: Algorithm, groups: ClientGroups
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each client's cost in a round and in an evaluation, (m,) each."""
    trained, size = manifest.counts["train"], algorithm.mini_batch_size()

    def passed(budgets: Sequence[LocalBudget], size: int | None) -> NDArray[np.int64]:
        batching = Batching(config.last_batch)
        return samples_processed(budgets, size, trained, batching=batching)

    training = passed(_phases_with_steps(algorithm, groups), size)
    variants, options = config.evaluation.variants, config.evaluation.fine_tune
    tuning = len(variants) * passed(algorithm.fine_tuning_budgets(), size)
    if options is not None:
        times = sum(one.fine_tuned for one in variants)
        size = fine_tuning_batch_size(config, algorithm)
        tuning += times * passed([options.work], size)
    tested = len(variants) * manifest.counts[config.evaluation.split]
    return training if training.any() else trained, tested + TRAINING_COST * tuning


def _phases_with_steps(algorithm: Algorithm, groups: ClientGroups) -> list[LocalBudget]:
    """Return the phases of local work that train something in any client's model."""
    work, blocks = algorithm.local_budgets(), algorithm.trained_blocks()
    if len(blocks) != len(work):
        return list(work)
    held: set[str] = {"both"}
    for group in groups.members:
        held |= {name for name, vector in group.initial.items() if len(vector)}
    return [one for one, block in zip(work, blocks, strict=True) if block in held]


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
