"""The command line of ``fedapm prepare``."""

import pytest

from data_prep.pipeline import plan
from fedapm_mpi.cli import prepare as prepare_command
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError
from tests.support.preparation import command, prepare


def test_words_may_stand_anywhere(origin, tmp_path):
    for i, words in enumerate(
        [
            ("arrays", "seed=2", "--from", origin, "--to", "{}"),
            ("--from", origin, "--to", "{}", "arrays", "seed=2"),
            ("arrays", "--from", origin, "seed=2", "--to", "{}"),
        ]
    ):
        to = tmp_path / f"{i}"
        command(prepare_command, *(to if word == "{}" else word for word in words))
        assert read_manifest(to).seed == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "needs SOURCE, --from PATH, --to DIR"),
        (("arrays",), "needs --from PATH, --to DIR"),
        (("arrays", "--from", "a", "--to", "b", "c"), "'c' is not of the form"),
        (("array", "--from", "a", "--to", "b"), "did you mean 'arrays'"),
        (("arrays", "--from", "a", "--to", "b", "=1"), "is not of the form"),
        (
            ("arrays", "--from", "a", "--to", "b", "kernels=portable"),
            "^prepare has kernels as a flag: write --kernels portable$",
        ),
    ],
)
def test_command_line_errors(words, message):
    with pytest.raises(ConfigError, match=message):
        command(prepare_command, *words)


def test_every_error_is_reported_at_once():
    values = {
        "clint": 3,
        "normalize": "window",
        "test": "much",
        "partitioner": {"name": "dirichlet", "bta": 1},
        "normalise": "all",
    }
    with pytest.raises(ConfigError) as caught:
        plan("arrays", values)
    message = str(caught.value)
    for part in (
        "clint: unknown key; did you mean 'clients'?",
        "normalize: unknown key; did you mean 'normalise'?",
        "'much'",
        "did you mean 'beta'?",
        "'all'",
    ):
        assert part in message


def test_lists_its_parts(capsys):
    assert command(prepare_command, "--list") == 0
    out = capsys.readouterr().out
    for name in ("arrays", "cifar10", "fashion-mnist", "watch"):
        assert f"\n  {name} " in out
    for name in ("natural", "iid", "dirichlet", "shards"):
        assert f"\n  {name} " in out
    assert "Assign samples at random " in out


def test_summary(origin, tmp_path, capsys):
    prepare(
        "arrays", origin, tmp_path / "to", "partitioner=dirichlet", "clients=9",
        "partitioner.beta=0.01",
    )  # fmt: skip
    out = capsys.readouterr().out
    moved = read_manifest(tmp_path / "to").partitioner["moved"]
    assert moved > 0
    assert f"{moved} samples moved" in out
    assert "dirichlet (beta=0.01, min_samples=10)" in out
    assert "clients        9" in out
    assert "Jensen-Shannon" in out
