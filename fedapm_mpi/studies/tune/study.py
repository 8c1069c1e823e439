"""The state of a study, from its first generation of trials to the last."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.schema import Config
from fedapm_mpi.data.manifest import Manifest, read_manifest
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.federation.task_builder import build_task
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.studies.tune import halving
from fedapm_mpi.studies.tune.budget import Passes
from fedapm_mpi.studies.tune.default_space import build_space
from fedapm_mpi.studies.tune.halving import Plan
from fedapm_mpi.studies.tune.record import (
    Failure,
    Trial,
    begin_or_continue,
    read_trials,
    write_trials,
)
from fedapm_mpi.studies.tune.sampler import ask, optuna_module
from fedapm_mpi.studies.tune.space import Space
from fedapm_mpi.studies.tune.splits import trained_blocks_of, with_each_split
from fedapm_mpi.studies.tune.trials import (
    VALIDATION,
    Ended,
    metric_names,
    outcome,
    result_of,
    trial_values,
    until,
    write_rung,
)
from fedapm_mpi.training.context import build_context
from fedapm_mpi.training.identity import identity_of
from fedapm_mpi.utils.atomic_io import write_text

RUNS = "trials"
"""Folder of the runs in that of a study; it is laid out like that of a sweep."""


class StudyError(FedAPMError):
    """A study that cannot continue, as none of its trials can be trained."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Request:
    """What is asked of a study."""

    config: Config
    space: Mapping[str, Any]
    """What a YAML file changes in the default space."""

    trials: int
    width: int
    rungs: tuple[Fraction, ...]
    keep: Fraction
    seed: int
    out: Path
    finalists: int = 0
    repeats: int = 2
    passes: float | None = None
    """Budget of a trial; that of the configuration as it is unless given."""

    metric: str | None = None
    """Key of a record; the task's most important metric unless given."""


class Study:
    """The state of a study, in memory and in its folder.

    Parameters
    ----------
    request
        What is asked of it.

    Raises
    ------
    FedAPMError
        If something of it is not valid, or its folder holds another study.
    """

    def __init__(self, request: Request) -> None:
        optuna_module()
        self.config, self.out, self.seed = request.config, request.out, request.seed
        self.base = request.config.plain()
        self.manifest = validated_manifest(request.config)
        self.metric, higher = chosen_metric(
            request.config, request.metric, self.manifest
        )
        self.plan = Plan(
            request.trials,
            request.width,
            request.rungs,
            request.keep,
            higher,
            request.finalists,
            request.repeats,
        )
        self.space: Space = build_space(request.config, self.manifest, request.space)
        self.passes = (
            self._configured_passes() if request.passes is None else request.passes
        )
        begin_or_continue(self.out, self._identity())
        self.trials = read_trials(self.out)
        self._values: dict[int, dict[str, Any]] = {}

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.out / RUNS

    def run_of(self, trial: Trial) -> Path:
        """Return the run directory of a trial."""
        return self.runs / trial.name

    def config_of(self, trial: Trial) -> Path:
        """Return the file with the configuration of a trial up to its next rung."""
        return self.runs / "cells" / f"{trial.name}.yaml"

    def advance(self) -> list[tuple[Trial, int]]:
        """Return the trials to train now, each with the rounds to train to.

        None are left once the study is over. Their configurations are written.

        Raises
        ------
        StudyError
            If no trial of the study could be trained.
        """
        while True:
            generation = [
                one for one in self.trials if one.generation == self._last_generation
            ]
            self._repeat_equal_rungs(generation)
            todo = halving.pending(self.plan, generation)
            if todo:
                for trial, rounds in todo:
                    values = self.values_of(trial)
                    write_rung(self.config_of(trial), values, rounds)
                self._write_names()
                return todo
            self._check_any_trained()
            asked = halving.next_generation(
                self.plan, self.trials, partial(self._ask), self._make
            )
            if not asked:
                return []
            self.trials += asked
            self._write()

    def settle(self, trial: Trial, rounds: int, ended: Ended | None) -> bool:
        """Record how a trial has ended at a rung; return whether that is known.

        Parameters
        ----------
        trial, rounds
            Of `advance`.
        ended
            How its run has ended; `None` if its directory is all that is known.
        """
        run = self.run_of(trial)
        if ended is None:
            found = result_of(run, rounds, self.metric)
        else:
            found = outcome(run, rounds, self.metric, ended)
        if found is None:
            return False
        if isinstance(found, Failure):
            trial.failure = found
        else:
            trial.results.append(found)
        self._write()
        return True

    def fail(self, trial: Trial, failure: Failure) -> None:
        """Record that a trial counts as the worst."""
        trial.failure = failure
        self._write()

    def values_of(self, trial: Trial) -> dict[str, Any]:
        """Return the plain configuration of a trial, with all of its rounds."""
        number = trial.number if trial.repeats is None else trial.repeats
        if number not in self._values:
            self._values[number] = trial_values(
                self.base, self.space, trial.params, self.manifest, self.passes
            )
        found = self._values[number]
        return {**found, "seed": found["seed"] + trial.seed}

    def rung_values(self, trial: Trial, rounds: int) -> dict[str, Any]:
        """Return the plain configuration of a trial up to a rung."""
        return until(self.values_of(trial), rounds)

    def best(self) -> Trial | None:
        """Return the best trial that was trained to the end."""
        return halving.best(self.plan, self.trials)

    @property
    def searched(self) -> list[Trial]:
        """The trials without those that repeat another."""
        return [one for one in self.trials if one.repeats is None]

    @property
    def _last_generation(self) -> int:
        return self.trials[-1].generation if self.trials else 0

    def _ask(self, finished: Any, generation: int, count: int) -> list[dict[str, Any]]:
        configured = self.space.nearest(self.base)
        first = with_each_split(self.space, configured, count)
        return ask(self.space, finished, self.seed, generation, count, first)

    def _make(self, number: int, generation: int, params: dict[str, Any]) -> Trial:
        """Return a new trial; one whose configuration is not valid has failed."""
        whole = self.space.whole(params)
        trial = Trial(number, generation, params)
        trial.personal = self.space.personal_size(whole)
        try:
            values = trial_values(
                self.base, self.space, params, self.manifest, self.passes
            )
            config = Config.from_plain(values)
            build_context(config, Serial(), self.manifest)
        except ConfigError as error:
            trial.failure = Failure("ConfigError", str(error), error.exit_code)
            return trial
        self._values[number] = values
        trial.rungs = self.plan.rungs_of(config.rounds)
        trial.passes = self._counted(config).of_rounds(config.rounds)
        return trial

    def _repeat_equal_rungs(self, generation: list[Trial]) -> None:
        """Give a trial with few rounds its value again where two rungs are equal."""
        for trial, rounds in halving.pending(self.plan, generation):
            if trial.results and trial.rounds_done == rounds:
                trial.results.append(trial.results[-1])
                self._repeat_equal_rungs(generation)
                return

    def _check_any_trained(self) -> None:
        """Raise `StudyError` if all trials have failed; they are asked for again."""
        if not self.trials or any(one.results for one in self.trials):
            return
        first = self.trials[0]
        assert first.failure is not None
        for trial in self.trials:
            shutil.rmtree(self.run_of(trial), ignore_errors=True)
        write_trials(self.out, [])
        msg = (
            f"none of the first {len(self.trials)} trials could be trained; the first "
            f"ended with: {first.failure.message}"
        )
        raise StudyError(msg, first.failure.exit_code)

    def _write(self) -> None:
        write_trials(self.out, self.trials)

    def _write_names(self) -> None:
        """Write the names of all trials, by which a job array finds its own."""
        names = "".join(f"{trial.name}\n" for trial in self.trials)
        write_text(self.runs / "cells.txt", names)

    def _counted(self, config: Config) -> Passes:
        sharing = build_sharing(config)
        blocks = trained_blocks_of(config.plain().get("split"), sharing)
        return Passes(config, self.manifest, blocks)

    def _configured_passes(self) -> float:
        return self._counted(self.config).of_rounds(self.config.rounds)

    def _identity(self) -> dict[str, Any]:
        """Return all that the trials follow from; data and runs may move.

        Repetitions come after them, so a study that had none may be given some.
        """
        return {
            "config": identity_of(self.base),
            "manifest": self.manifest.sha256,
            "space": self.space.plain(),
            "seed": self.seed,
            "trials": self.plan.trials,
            "width": self.plan.width,
            "rungs": [str(share) for share in self.plan.rungs],
            "keep": str(self.plan.keep),
            "passes": self.passes,
            "metric": self.metric,
        }


def build_sharing(config: Config) -> str:
    """Return which parameters the method of a configuration shares."""
    from fedapm_mpi.federation.federation import build_algorithm

    return build_algorithm(config.algorithm).sharing


def validated_manifest(config: Config) -> Manifest:
    """Return the data of a configuration's clients, which must have validation parts.

    Raises
    ------
    DataError
        If they have none, or the data set cannot be read.
    """
    manifest = read_manifest(config.data).first_clients(config.clients)
    counts = manifest.counts.get(VALIDATION)
    if counts is None or not counts.any():
        files = [str(one.get("name")) for one in manifest.preparation.get("files", ())]
        raw = files[0] if len(files) == 1 else "RAW"
        source = "arrays" if raw.endswith(".npz") else "SOURCE"
        msg = (
            f"{config.data} has no validation parts, on which trials are compared; "
            f"make them with fedapm prepare {source} --from {raw} --to "
            f"{config.data}-val split=random val=0.2, with the other options as before"
        )
        raise DataError(msg)
    return manifest


def chosen_metric(
    config: Config, wanted: str | None, manifest: Manifest
) -> tuple[str, bool]:
    """Return the key of the record that trials are compared by, and if more is better.

    Raises
    ------
    ConfigError
        If the task has no such metric.
    """
    metrics = build_task(config.task, manifest, config.metrics).metric_set()
    name = metrics.headline if wanted is None else wanted
    known = metric_names(metrics.names)
    if name not in known:
        msg = (
            f"--metric: the task has no {name!r}{did_you_mean(name[:60], known)} "
            f"(known: {', '.join(known)})"
        )
        raise ConfigError(msg)
    own = name if name in metrics.names else name.removesuffix("_worst_decile")
    return name, metrics.higher_is_better[own]
