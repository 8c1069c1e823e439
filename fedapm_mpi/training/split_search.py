"""Choose which parameters are personal: the smallest set that suffices.

The candidates that the model offers are tried in order of size. Each is trained for a
short phase, from where the one before ended, and tested: the first that leaves no layer
shared in which clients differ is chosen. See ``docs/method.md``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from typing import Any, Literal

from fedapm_mpi.comm import Communicator
from fedapm_mpi.config.evaluation_options import Evaluation
from fedapm_mpi.config.schema import Config, Diagnostics
from fedapm_mpi.config.split_options import Split, search_options
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.federation.client_groups import build_modules
from fedapm_mpi.federation.federation import build_algorithm, build_federation
from fedapm_mpi.federation.split_candidates import SplitCandidate, split_candidates
from fedapm_mpi.optim.layer_test import LayerTest
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import is_user_plugin
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.training.context import (
    TrainingContext,
    open_context,
    read_shared_manifest,
)
from fedapm_mpi.training.evaluation import evaluate_clients
from fedapm_mpi.training.local_scores import measure_scores
from fedapm_mpi.training.multiplier import measure_layers
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_phase import Values, read_values, train_phase
from fedapm_mpi.training.split_rules import RULES

PHASE_SCHEDULE = {
    "name": "cosine",
    "final": 0.05,
    "period": None,
    "growth": 1.0,
    "warmup": 0.0,
    "unit": "round",
}
"""Step sizes of a phase: noise of the last steps would count as a difference."""


@dataclass(frozen=True)
class TestedCandidate:
    """A candidate after its test."""

    candidate: SplitCandidate

    tests: Mapping[str, LayerTest]
    """Of each layer that it leaves shared."""

    suffices: bool
    """Whether every one of them is below its threshold."""

    val: float | None = None
    """Headline metric on the clients' ``val`` parts, of a finalist."""

    @property
    def worst(self) -> tuple[str, float] | None:
        """The shared layer with the largest LM, and this; `None` if there is none."""
        layers = {name: test.lm for name, test in self.tests.items()}
        name = max(layers, key=lambda one: layers[one], default=None)
        return None if name is None else (name, layers[name])

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        layers = {
            name: {
                "size": test.size,
                "clients": test.clients,
                "lm": test.lm,
                "p_value": test.p_value,
            }
            for name, test in self.tests.items()
        }
        found = {
            "name": self.candidate.name,
            "personal": list(self.candidate.personal),
            "size": self.candidate.size,
            "suffices": self.suffices,
            "layers": layers,
        }
        return found | ({} if self.val is None else {"val": self.val})


@dataclass(frozen=True)
class SplitChoice:
    """The result of a search; equal on all ranks."""

    chosen: SplitCandidate
    tested: Sequence[TestedCandidate]
    """In the order of their tests; none by another rule than the multiplier test."""

    scores: Mapping[str, float] = field(default_factory=dict)
    """By another rule: what it scored, parameters or layers by name."""

    @property
    def split(self) -> Split:
        """The chosen split, by the names of parameters."""
        return split_of(self.chosen)


def split_of(candidate: SplitCandidate) -> Split:
    """Return a candidate as a configuration has it."""
    return Split(personal=[escape(name) for name in candidate.personal])


class SplitSearch:
    """A search for a split; making one is a collective call.

    What is wrong with the configuration, the data or the model is raised here.

    Parameters
    ----------
    comm
        The ranks.
    config
        The experiment, with ``split.auto``.

    Attributes
    ----------
    candidates
        Those that are to be tried, the smallest first.
    first
        The parts of the first phase.
    """

    def __init__(self, comm: Communicator, config: Config) -> None:
        self.comm, self.config = comm, config
        self.options = search_options(config.split)
        self.candidates, self._clients = list_candidates(comm, config)
        self.first = self._open(self.candidates[0])

    def run(
        self,
        stop: PreemptionGuard,
        tell: Callable[[TestedCandidate], None] = lambda tested: None,
        *,
        everything: bool = False,
    ) -> SplitChoice | None:
        """Return the choice, or `None` if the run was asked to stop; collective.

        Parameters
        ----------
        stop
            Asked in every round.
        tell
            Called on every rank with each candidate that was tested.
        everything
            Whether to test all candidates, also after the first that suffices.
        """
        if self.options.rule != "multiplier":
            return self._choose_by_rule(stop)
        tested: list[TestedCandidate] = []
        values: Values | None = None
        for k, candidate in enumerate(self.candidates):
            context = self._open(candidate) if k else self.first
            trained = train_phase(context, values, stop)
            if trained.stopped:
                return None
            tests = measure_layers(
                context,
                trained.message,
                context.config.rounds,
                damping=self.options.damping,
            )
            limit = self.options.test_threshold()
            enough = all(test.lm < limit.of(test) for test in tests.values())
            tested.append(TestedCandidate(candidate, tests, enough))
            tell(tested[-1])
            if enough and not everything:
                break
            values = read_values(context, trained.message)
        chosen = _choose(tested)
        if self.options.finalists > 1:
            return self._compare(tested, chosen, stop)
        return SplitChoice(tested[chosen].candidate, tested)

    def _choose_by_rule(self, stop: PreemptionGuard) -> SplitChoice | None:
        """Return the choice of a rule that looks at local training; collective."""
        rule = RULES[self.options.rule]
        everything = self.candidates[-1]
        config = phase_config(self.config, everything, self._clients, False)
        context = open_context(one_round(config), self.comm)
        scores = measure_scores(context, rule, stop)
        if scores is None:
            return None
        sizes: dict[str, int] = {}
        for group in context.groups.members:
            sizes |= group.model.sizes("personal")
        personal = rule.personal(scores, sizes)
        personal |= set(self.candidates[0].personal)  # what cannot be shared
        found = next(
            (one for one in self.candidates if set(one.personal) == personal), None
        )
        if found is None:
            size = sum(sizes[name] for name in personal)
            names = tuple(one for one in everything.personal if one in personal)
            found = SplitCandidate(self.options.rule, names, size)
        return SplitChoice(found, [], scores)

    def _open(
        self, candidate: SplitCandidate, *, validated: bool = False
    ) -> TrainingContext:
        """Return the parts of a candidate's phase; a collective call."""
        config = phase_config(self.config, candidate, self._clients, validated)
        return open_context(config, self.comm)

    def _compare(
        self, tested: Sequence[TestedCandidate], chosen: int, stop: PreemptionGuard
    ) -> SplitChoice | None:
        """Return the choice among the neighbors in size by validation; collective.

        Each starts from the initial model, so that none has trained for longer.
        """
        by_name = {one.candidate.name: one for one in tested}
        names = [one.name for one in self.candidates]
        here = names.index(tested[chosen].candidate.name)
        near = sorted(range(len(names)), key=lambda k: (abs(k - here), k))
        best: tuple[float, SplitCandidate] | None = None
        for k in sorted(near[: self.options.finalists]):
            candidate = self.candidates[k]
            context = self._open(candidate, validated=True)
            trained = train_phase(context, None, stop)
            if trained.stopped:
                return None
            found = evaluate_clients(context, trained.message, context.config.rounds)
            value = self.comm.bcast_object(
                None if found is None else _headline(context, found.record)
            )
            if best is None or value > best[0]:  # of equals the smallest
                best = (value, candidate)
            known = by_name.get(candidate.name, TestedCandidate(candidate, {}, False))
            by_name[candidate.name] = dataclasses.replace(known, val=abs(value))
        assert best is not None
        return SplitChoice(best[1], [by_name[n] for n in names if n in by_name])


def list_candidates(
    comm: Communicator, config: Config
) -> tuple[list[SplitCandidate], int]:
    """Return the candidates that model, algorithm and options allow; collective.

    The number is that of the clients that take part in the search.

    Raises
    ------
    ConfigError
        If there is no candidate, or the data do not allow the search.
    """
    found: list[SplitCandidate] = []
    error: FedAPMError | None = None
    manifest = read_shared_manifest(config, comm)
    try:
        manifest = manifest.first_clients(config.clients)
        manifest = manifest.first_clients(_searched(config, manifest))
        _check_data(config, manifest)
        modules = build_modules(config, manifest)
        found = split_candidates(
            modules, partially_shared=config.partially_shared or ()
        )
        ends = (0, max(one.size for one in found))
        found = [
            one
            for one in found
            if one.size not in ends or _is_taken(config, manifest, one)
        ]
        _check_rule(config, found)
        found = _wanted(found, config)
    except Exception as caught:  # whatever a user's own plug-in raises
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    return found, manifest.num_clients


def _is_taken(config: Config, manifest: Manifest, candidate: SplitCandidate) -> bool:
    """Return whether a run takes a candidate in which one block is empty.

    Not every algorithm does, nor every evaluation and diagnostic.
    """
    chosen = dataclasses.replace(config, split=split_of(candidate))
    try:
        build_federation(chosen, manifest, build_algorithm(config.algorithm), 1)
    except ConfigError:  # of anything else, the first phase has it too
        return False
    return True


def _searched(config: Config, manifest: Manifest) -> int:
    """Return the number of clients that take part in the search."""
    return min(search_options(config.split).clients, manifest.num_clients)


def _check_data(config: Config, manifest: Manifest) -> None:
    """Raise `ConfigError` if the data of the search's clients do not allow it."""
    options = search_options(config.split)
    with_samples = int((manifest.counts["train"] > 0).sum())
    if with_samples < 2:
        msg = (
            f"split.auto: {with_samples} of the first {manifest.num_clients} clients "
            "have training samples; it compares clients, and needs two or more"
        )
        raise ConfigError(msg)
    val = manifest.counts.get("val")
    if options.finalists > 1 and (val is None or not val.any()):
        msg = (
            f"split.auto.finalists is {options.finalists}, but {manifest.directory} "
            "has no val samples to compare them on; prepare it again with val=0.2, "
            "say, or leave the choice to the test with finalists=1"
        )
        raise ConfigError(msg)


def _check_rule(config: Config, candidates: Sequence[SplitCandidate]) -> None:
    """Raise `ConfigError` if the rule trains in a way that the run does not take."""
    rule = search_options(config.split).rule
    if rule != "multiplier" and candidates[-1].name != "all":
        msg = (
            f"split.auto.rule: {rule!r} looks at clients that share nothing, a split "
            f"that the algorithm {config.algorithm['name']!r} does not take with this "
            "configuration; use the rule multiplier"
        )
        raise ConfigError(msg)


def _wanted(candidates: list[SplitCandidate], config: Config) -> list[SplitCandidate]:
    """Return the candidates that the configuration names.

    Raises
    ------
    ConfigError
        If it names one that the model does not offer, or none are left.
    """
    names = [one.name for one in candidates]
    wanted = search_options(config.split).candidates
    for name in wanted or ():
        if name not in names:
            hint = did_you_mean(name, names)
            msg = (
                f"split.auto.candidates: the model offers no {name!r}{hint} "
                f"(candidates: {', '.join(names)})"
            )
            raise ConfigError(msg)
    found = [one for one in candidates if wanted is None or one.name in wanted]
    if not found:
        msg = (
            "split.auto: the model offers no split that the algorithm "
            f"{config.algorithm['name']!r} takes; give split.personal or split.shared"
        )
        raise ConfigError(msg)
    return found


def phase_config(
    config: Config, candidate: SplitCandidate, clients: int, validated: bool = False
) -> Config:
    """Return the configuration of a candidate's phase.

    Parameters
    ----------
    config
        The experiment, with ``split.auto``.
    candidate
        What is personal.
    clients
        Number of clients.
    validated
        Whether it ends with an evaluation of the ``val`` parts.
    """
    options = search_options(config.split)
    part: Literal["val", "train"] = "val" if validated else "train"
    # A user's own algorithm may step without the solver, and then has no schedule.
    decays = config.schedule is not None or not is_user_plugin(config.algorithm["name"])
    schedule = {**PHASE_SCHEDULE, "rounds": options.rounds} if decays else None
    return dataclasses.replace(
        config,
        split=split_of(candidate),
        clients=clients,
        rounds=options.rounds,
        schedule=schedule,
        participation={"name": "full"},
        evaluation=Evaluation(split=part, pooled=False),
        diagnostics=Diagnostics(),
        tolerance=None,
        update_transforms=[],
        metrics=[],
    )


def one_round(config: Config) -> Config:
    """Return the configuration of a phase of one round."""
    schedule = None if config.schedule is None else {**config.schedule, "rounds": 1}
    return dataclasses.replace(config, rounds=1, schedule=schedule)


def _choose(tested: Sequence[TestedCandidate]) -> int:
    """Return the place of the smallest candidate that suffices.

    If none does, it is the one whose worst layer is best.
    """
    enough = [k for k, one in enumerate(tested) if one.suffices]
    if enough:
        return enough[0]
    worst = [one.worst for one in tested]
    largest = [0.0 if found is None else found[1] for found in worst]
    return min(range(len(tested)), key=lambda k: largest[k])


def _headline(context: TrainingContext, record: Mapping[str, Any]) -> float:
    """Return an evaluation's headline metric, signed such that more is better."""
    metrics = context.task.metric_set()
    value = float(record[metrics.headline])
    return value if metrics.higher_is_better[metrics.headline] else -value
