"""The budget of a search: passes over the training data, the same for every trial.

A trial has as many rounds as its local work fits into the budget. The passes of a round
are the samples that its participants' phases process, over all training samples; what
trains before an evaluation counts once, as it is done once to a model that is used.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.algorithms import Algorithm, LocalBudget
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.federation import plugin_checks
from fedapm_mpi.federation.assignment import samples_processed
from fedapm_mpi.federation.builder import build_plugin, fine_tuning_batch_size
from fedapm_mpi.federation.federation import build_algorithm
from fedapm_mpi.optim.batching import Batching
from fedapm_mpi.participation import Participation, participation
from fedapm_mpi.utils.rng import Purpose, generator

MAX_ROUNDS = 100_000
"""Rounds of a trial above which its local work is taken for none."""

TOLERANCE = 1e-9
"""Part of a pass by which rounding may exceed a budget."""


class Passes:
    """The passes over the training data that a configuration takes.

    Parameters
    ----------
    config
        The configuration; of it participation, seed and what is trained count.
    manifest
        Data of its clients.
    blocks
        The blocks that the models have, "personal" and "shared": a phase that trains an
        empty one takes no step.

    Raises
    ------
    ConfigError
        If the length of a phase is not known beforehand.
    """

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        blocks: Sequence[str] = ("personal", "shared"),
    ) -> None:
        self._config, self._manifest = config, manifest
        self._algorithm = build_algorithm(config.algorithm)
        self._blocks = {*blocks, "both"}
        self._check()

    def of_rounds(self, rounds: int) -> float:
        """Return the passes of a run of some rounds."""
        each = sum(self._of_round(t) for t in range(rounds))
        return each + self.before_evaluation

    def rounds_within(self, passes: float) -> int:
        """Return the largest number of rounds that some passes are enough for.

        Raises
        ------
        ConfigError
            If not even one is, or rounds take no passes.
        """
        left = passes - self.before_evaluation + TOLERANCE
        rounds = 0
        while rounds < MAX_ROUNDS:
            left -= self._of_round(rounds)
            if left < 0:
                break
            rounds += 1
        if not 0 < rounds < MAX_ROUNDS:
            what = (
                "is not enough for a round and what trains before the evaluation"
                if rounds == 0
                else f"lasts for more than {MAX_ROUNDS} rounds"
            )
            msg = f"a budget of {passes:g} passes {what}; look at local work"
            raise ConfigError(msg)
        return rounds

    @cached_property
    def before_evaluation(self) -> float:
        """Passes of fine-tuning, of all clients once."""
        config, algorithm = self._config, self._algorithm
        passed = self._passed(
            algorithm.fine_tuning_budgets(), algorithm.mini_batch_size()
        )
        tuning = config.evaluation.fine_tune
        if tuning is not None:
            size = fine_tuning_batch_size(config, algorithm)
            passed = passed + self._passed([tuning.work], size)
        return float(passed.sum() / self._samples)

    @cached_property
    def _samples(self) -> int:
        return max(1, int(self._manifest.counts["train"].sum()))

    @cached_property
    def _scheme(self) -> Participation:
        scheme: Participation = build_plugin(participation, self._config.participation)
        scheme.check(self._manifest.num_clients)
        return scheme

    @cached_property
    def _costs(self) -> NDArray[np.float64]:
        """(m,) samples that a client's local work processes when it takes part."""
        work, blocks = self._algorithm.local_budgets(), self._algorithm.trained_blocks()
        if len(blocks) == len(work):
            pairs = zip(work, blocks, strict=True)
            work = [one for one, block in pairs if block in self._blocks]
        passed = self._passed(work, self._algorithm.mini_batch_size())
        repeats, more = _hidden_passes(self._algorithm)
        return passed * repeats + more * self._manifest.counts["train"]

    def _passed(
        self, budgets: Sequence[LocalBudget], size: int | None
    ) -> NDArray[np.float64]:
        trained = self._manifest.counts["train"]
        batching = Batching(self._config.last_batch)
        total = np.zeros(len(trained))
        for budget in budgets:
            found = samples_processed([budget], size, trained, batching=batching)
            counted = budget.steps is not None  # of several mini-batches each
            total += found * (self._config.accumulate_batches if counted else 1)
        return total

    def _of_round(self, index: int) -> float:
        rng = generator(self._config.seed, Purpose.PARTICIPANTS, index)
        chosen = plugin_checks.check_participants(
            self._config.participation, self._scheme, self._manifest.num_clients, rng
        )
        return float(self._costs[chosen].sum() / self._samples)

    def _check(self) -> None:
        """Refuse phases whose length in samples is unknown."""
        work = list(self._algorithm.local_budgets())
        name = self._config.algorithm["name"]
        if not work:
            msg = (
                f"algorithm {name!r} does not say how long its local work is (its "
                "method local_budgets), so its passes over the data cannot be counted"
            )
            raise ConfigError(msg)
        if any(one.xi is not None for one in work):
            msg = (
                "a local phase that ends by the tolerance xi has no known length; give "
                "epochs, so that passes over the data can be counted"
            )
            raise ConfigError(msg)
        tuned = [*work, *self._algorithm.fine_tuning_budgets()]
        in_steps = any(one.steps is not None for one in tuned)
        if in_steps and self._algorithm.mini_batch_size() is None:
            msg = (
                f"algorithm {name!r} counts local work in steps but does not say how "
                "many samples a mini-batch has; give epochs"
            )
            raise ConfigError(msg)


def _hidden_passes(algorithm: Algorithm) -> tuple[int, int]:
    """Return how often each mini-batch is used, and further passes of a round.

    pFedMe takes several gradients on each mini-batch, and SCAFFOLD may take one more
    over all samples; neither is a part of their `local_budgets`.
    """
    repeats = getattr(algorithm, "inner_steps", 1)
    extra = getattr(algorithm, "control_variate", None) == "gradient"
    return (repeats if type(repeats) is int else 1), int(extra)
