"""What a model may return, and what is said of anything else."""

import re

import pytest
import torch

from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.model_outputs import checked_outputs, describe_output, logits_of
from fedapm_mpi.errors import ConfigError, FedAPMError, TrainingError
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.training.runner import dry_run, train
from tests.support.processes.cli_runs import digest_of, experiment

CLASSES = Classification()

WANTED = r"; it must return class scores, a floating Tensor \(n, classes\), or an "


def config(data, kind, **changes):
    model = {"name": "odd_models:returning", "kind": kind}
    return validate(experiment(data, model=model, **changes), "test")


@pytest.fixture(scope="module")
def plain(toy, tmp_path_factory):
    directory = tmp_path_factory.mktemp("plain") / "run"
    wanted = config(toy["features"], "tensor")
    train(Serial(), wanted, directory=directory, progress="none")
    return directory


@pytest.mark.parametrize("kind", ["dict", "object", "mapping", "named"])
def test_logits_are_taken_out_of_what_holds_them(toy, tmp_path, plain, kind):
    wanted = config(toy["features"], kind)
    train(Serial(), wanted, directory=tmp_path / "run", progress="none")
    assert digest_of(tmp_path / "run") == digest_of(plain)
    found = load_client_model(tmp_path / "run", 0)(torch.ones(2, 6))
    expected = load_client_model(plain, 0)(torch.ones(2, 6))
    assert torch.equal(logits_of(found, CLASSES), expected)
    for name in ("clients.csv", "summary.json"):
        assert (tmp_path / "run" / name).read_bytes() == (plain / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tuple", r"returned a tuple of \(Tensor \(2, 3\), Tensor \(2, 4\)\)" + WANTED),
        ("list", r"returned a list of \(Tensor \(2, 3\)\)" + WANTED),
        ("none", "returned None" + WANTED),
        ("other", "returned a dict with the keys 'scores', 'hidden'" + WANTED),
        ("numpy", r"returned a NumPy array \(2, 3\)" + WANTED),
        ("logits", "returned logits that are a list of .*" + WANTED),
        ("flat", r"returned scores of shape \(6,\) for 2 sample"),
        ("narrow", r"gives scores of shape \(2, 2\) for 2 sample\(s\); .* \(2, 3\)"),
        ("whole", r"gives scores of dtype torch.int64" + WANTED),
        ("detached", "returned scores that depend on no parameter that is trained"),
        ("training", r"returned a tuple of \(Tensor \(2, 3\), Tensor \(2, 4\)\)"),
    ],
)
def test_anything_else_is_named_before_training(toy, kind, expected):
    with pytest.raises(
        ConfigError, match=f"model 'odd_models:returning' {expected}"
    ) as e:
        dry_run(Serial(), config(toy["features"], kind))
    assert len(str(e.value)) < 400


def test_scores_that_one_part_does_not_reach_are_named_in_use(toy, tmp_path):
    """A tied head that the forward leaves out, personal: nothing of it can train."""
    split = {"personal": ["extra.bias"]}
    model = {"name": "odd_models:unusual", "kind": "tied"}
    wanted = experiment(toy["features"], model=model, split=split)
    with pytest.raises(FedAPMError, match="none of the scores depends on"):
        train(Serial(), validate(wanted, "test"), directory=tmp_path / "run")


def test_a_lost_axis_of_a_single_sample_is_named():
    assert checked_outputs(torch.zeros(1, 3), 1, CLASSES).shape == (1, 3)
    with pytest.raises(TrainingError, match=r"shape \(3,\) for 1 sample"):
        checked_outputs(torch.zeros(3), 1, CLASSES)


def test_descriptions_are_short():
    assert describe_output(torch.zeros(2, 3)) == "a Tensor (2, 3)"
    assert describe_output(()) == "a tuple of nothing"
    assert describe_output({}) == "a dict without keys"
    assert describe_output(0.5) == "a float"
    assert describe_output(3) == "an int"
    long = describe_output({"k" * 1000: 1})
    assert re.fullmatch(r"a dict with the keys 'k{178}… \(102\d characters\)", long)
