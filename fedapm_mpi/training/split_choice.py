"""Choose a run's split, and record it in the run directory, so that it continues."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.split_options import Split, search_options
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.tracking.run_directory import RunDirectory
from fedapm_mpi.training.context import TrainingContext, open_context
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_record import CHOICE, read_choice
from fedapm_mpi.training.split_search import SplitChoice, SplitSearch, TestedCandidate
from fedapm_mpi.utils.atomic_io import write_text
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import echo

log = get_logger(__name__)


def chooses_split(config: Config) -> bool:
    """Return whether the split of a configuration is still to be chosen."""
    return config.split is not None and config.split.auto is not None


def choose_split(
    search: SplitSearch, directory: RunDirectory, stop: PreemptionGuard, progress: str
) -> TrainingContext | None:
    """Return the parts of the run with the chosen split; a collective call.

    The choice is in the run directory afterwards. Until then the directory holds the
    configuration as it was given, from which the search can start again.

    Returns
    -------
    TrainingContext or None
        `None` if the run was asked to stop before the choice was made.
    """
    comm, config = search.comm, search.config
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        from fedapm_mpi.config.yaml_io import dump

        try:
            write_text(directory.path / "config.yaml", dump(config.plain()))
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    here = comm.rank == SERVER and progress != "none"
    choice = search.run(stop, _tell if here else _silent)
    if comm.rank == SERVER:
        try:
            if choice is None:
                again = f"fedapm train --resume {directory.path}"
                echo(f"stopped while the split was chosen; start again with: {again}")
            else:
                directory.write_json(CHOICE, plain_choice(config, choice))
                _report(choice)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    if choice is None:
        return None
    return open_context(dataclasses.replace(config, split=choice.split), comm)


def _silent(tested: TestedCandidate) -> None:
    """Say nothing."""


def _tell(tested: TestedCandidate) -> None:
    """Print the test of a candidate."""
    worst = tested.worst
    found = "nothing is shared" if worst is None else f"LM {worst[1]:.2f} in {worst[0]}"
    verdict = "" if tested.suffices else ", too much"
    one = tested.candidate
    echo(f"split: {one.name} ({one.size:,} personal): {found}{verdict}")


def _report(choice: SplitChoice) -> None:
    """Print the choice, and the validation of finalists."""
    for tested in choice.tested:
        if tested.val is not None:
            echo(f"split: {tested.candidate.name}: {tested.val:.4f} on val parts")
    one = choice.chosen
    echo(f"split: {one.name} is chosen, {one.size:,} parameters personal")
    if choice.tested and not any(tested.suffices for tested in choice.tested):
        log.info(
            "split: with no candidate do clients agree in all that is shared; %s comes "
            "closest",
            one.name,
        )


def plain_choice(config: Config, choice: SplitChoice) -> dict[str, Any]:
    """Return what the file says of a choice under a configuration with ``auto``."""
    return {
        "auto": dataclasses.asdict(search_options(config.split)),
        "chosen": choice.chosen.name,
        "split": {"personal": choice.split.personal},
        "candidates": [one.plain() for one in choice.tested],
    } | ({"scores": dict(choice.scores)} if choice.scores else {})


def plan_split(
    comm: Communicator, config: Config, directory: Path | None
) -> tuple[Config, SplitSearch | None]:
    """Return the configuration, and the search for its split if it needs one.

    A collective call. Where the run in `directory` is to be continued, and has chosen
    its split, the configuration is returned with that.

    Raises
    ------
    ConfigError
        If the split was chosen by other options of ``split.auto``.
    """
    if not chooses_split(config):
        return config, None
    if directory is None:
        return config, SplitSearch(comm, config)
    found: dict[str, Any] | None = None
    error: FedAPMError | None = None
    if comm.rank == SERVER:
        try:
            found = read_choice(directory)
            if found is not None:
                _check_options(found, config, directory)
        except FedAPMError as caught:
            error = caught
    comm.raise_collectively(error)
    (found,) = comm.bcast_object((found,))
    if found is None:
        return config, SplitSearch(comm, config)
    split = Split(personal=found["split"]["personal"])
    return dataclasses.replace(config, split=split), None


def _check_options(found: Mapping[str, Any], config: Config, directory: Path) -> None:
    now = dataclasses.asdict(search_options(config.split))
    differing = [key for key in now if found["auto"].get(key, now[key]) != now[key]]
    if differing:
        key = differing[0]
        msg = (
            f"{directory} cannot continue under another configuration: its split was "
            f"chosen with split.auto.{key}={found['auto'][key]}, not {now[key]}"
        )
        raise ConfigError(msg)
