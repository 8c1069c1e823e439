"""Values that the schema refuses, each by its key."""

import pytest

from fedapm_mpi.config.loader import validate
from tests.support.valid_config import VALID, changed, errors_of


def test_a_missing_key_is_named():
    values = {k: v for k, v in VALID.items() if k not in ("model", "data")}
    text = errors_of(values)
    assert "model: missing" in text
    assert "data: missing" in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"rounds": 0}, "rounds: input should be greater than or equal to 1, got 0"),
        ({"threads": 0}, "threads: input should be greater"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0"),
        ({"dtype": "float16"}, "dtype"),
        ({"split": {"personal": ["a"], "shared": ["b"]}}, "exactly one"),
        ({"split": {"personnal": ["a"]}}, "did you mean 'personal'"),
        ({"checkpoint": {"every": 0}}, "checkpoint.every: input should be greater"),
        ({"checkpoint": {"keep": 0}}, "checkpoint.keep: input should be greater"),
        ({"model": 5}, "model"),
        ({"model": {"hidden": [3]}}, "model: needs a name"),
    ],
)
def test_values_out_of_range_are_refused(overrides, words):
    assert words in errors_of(changed(**overrides))


@pytest.mark.parametrize("name", ["fedavg", "local"])
def test_a_split_that_would_do_nothing_is_refused(name):
    algorithm = {"name": name, "lr": 0.1, "batch_size": 5, "work": {"epochs": 1}}
    assert "remove it" in errors_of(changed(algorithm=algorithm))
    assert validate(changed(algorithm=algorithm, split=None), "test").split is None


@pytest.mark.parametrize(
    "other", [{"device": "cuda"}, {"threads": 2}, {"threads": "auto"}]
)
def test_portable_kernels_are_refused_where_they_cannot_be_promised(other):
    key = next(iter(other))
    text = errors_of(changed(kernels="portable", **other))
    assert f"kernels 'portable' needs {key}:" in text
    assert validate(changed(**other), "test").kernels == "native"


def test_portable_kernels_are_those_of_the_full_precision():
    text = errors_of(changed(kernels="portable", precision="bf16"))
    assert "needs precision: full" in text
    assert validate(changed(kernels="portable"), "test").kernels == "portable"


@pytest.mark.parametrize("value", [-1, 101, 1.5])
def test_a_replicate_is_a_small_number(value):
    assert "replicate: input should be" in errors_of(changed(replicate=value))
