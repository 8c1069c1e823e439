"""What a client's model of a finished run predicts for samples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.analysis.client_model import EvaluatedClient, evaluated_client
from fedapm_mpi.data.hdf5 import ClientArrays
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.data.samples import Samples, to_samples
from fedapm_mpi.engine.inference import predictions
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.federation.task_builder import targets_of
from fedapm_mpi.tasks.ordinal import Ordinal
from fedapm_mpi.utils.text import format_value


class Predictions(NamedTuple):
    """Predictions for n samples."""

    names: tuple[str, ...]
    """What each column holds, such as the class whose probability it is."""

    values: NDArray[np.float32]
    """(n, columns): as an evaluation has them, bit for bit."""

    classes: tuple[str, ...] = ()
    """The predicted class of each sample, where samples have one."""


def predict(
    run: Path, client: int | str, samples: ClientArrays | str, *, trust: bool = False
) -> Predictions:
    """Return what a client's model predicts, as the last evaluation of a run had it.

    Parameters
    ----------
    run
        Directory of a finished run.
    client
        Its number, or its name in the data set.
    samples
        Inputs as the run's data set stores them, or the part of it whose samples of the
        client are taken: train, test or val.
    trust
        As of `load_client_model`.

    Raises
    ------
    DataError
        If the run is not finished, has no such client or part, or inputs do not fit.
    ConfigError
        If the task gives a prediction for each position of a sample.
    """
    found = evaluated_client(run, client, trusted=trust, way="--trust")
    task = found.model.task
    if task.target_kind == "dense":
        msg = (
            f"{run} predicts a class for each position of a sample, which no table "
            "holds; load the model with load_client_model"
        )
        raise ConfigError(msg)
    if isinstance(samples, str):
        given = _own(found, samples)
    else:
        given = to_samples(samples, found.group.inputs, found.model.dtype)
    if not len(given.targets):
        msg = f"there is no sample to predict for client {found.client}"
        raise DataError(msg)
    _, values = predictions(found.model, given)
    return _named(found, values.numpy())


def _own(found: EvaluatedClient, part: str) -> Samples:
    counts = found.final.manifest.counts
    if part not in counts:
        msg = f"the data set has no part {format_value(part)} ({', '.join(counts)})"
        raise DataError(msg)
    return found.final.samples(found.client, part)


def _named(found: EvaluatedClient, values: NDArray[np.float32]) -> Predictions:
    """Return predictions with the names of what they are of."""
    targets = targets_of(found.final.manifest)
    names = targets.names
    width = values.shape[1]
    if targets.kind != "class":
        known = names if len(names) == width else _numbered(width)
        return Predictions(known, values)
    if width == len(names):
        chosen = values.argmax(axis=1)
        return Predictions(names, values, tuple(names[k] for k in chosen))
    if isinstance(found.model.task, Ordinal):
        above, _ = found.model.task.metric_pair(values, np.zeros(len(values)))
        return Predictions(
            tuple(f"above {name}" for name in names[:-1]),
            values,
            tuple(names[k] for k in above),
        )
    return Predictions(_numbered(width), values)


def _numbered(width: int) -> tuple[str, ...]:
    return tuple(f"prediction {k}" for k in range(width))


def sample_arrays(
    manifest: Manifest,
    inputs: Mapping[str, NDArray[Any]],
    lengths: Mapping[str, NDArray[np.int64]],
) -> ClientArrays:
    """Return inputs of new samples in the form in which shards give them.

    Parameters
    ----------
    manifest
        Of the run's data set.
    inputs, lengths
        By name: values ``(n, *shape)`` as stored, and true lengths ``(n,)``.

    Raises
    ------
    DataError
        If one is missing, or of another shape or type than in the data set.
    """
    number = len(next(iter(inputs.values()), ()))
    for spec in manifest.inputs:
        shape = (number, *spec.stored_shape)
        found = inputs.get(spec.name)
        if found is None or found.shape != shape or found.dtype != spec.stored_type:
            what = "missing" if found is None else f"{found.dtype} {found.shape}"
            msg = (
                f"input {format_value(spec.name)} is {what}; the data set of the run "
                f"has {spec.stored_type} {shape}"
            )
            raise DataError(msg)
    target = manifest.target
    blank = None
    if target is not None:  # a loss is taken of it, and not returned
        blank = np.zeros((number, *target.stored_shape), target.dtype)
    labels = np.zeros(number, np.int64)
    return ClientArrays(dict(inputs), dict(lengths), labels, blank)
