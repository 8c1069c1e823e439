"""Clients that are held out of training lie last, and nothing is fitted on them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from data_prep.new_clients import new_clients_last
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import verify_checksums
from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, everyone, prepare
from tests.support.processes.cli_runs import experiment

NAMES = ("ann", "bob", "eve", "kim", "lee")
RNG = np.random.default_rng(0)


def saved(tmp_path, **more):
    owner = np.arange(100) % 5
    path = tmp_path / "made.npz"
    x = RNG.normal(size=(100, 3)) + owner[:, None]
    arrays = {
        "x_f": x,
        "y": RNG.normal(size=100) + owner,
        "client": np.array(NAMES)[owner],
    }
    np.savez(path, **arrays | more)
    return path


def test_named_clients_are_last_and_the_others_keep_their_order(tmp_path):
    path = saved(tmp_path)
    plain = prepare("arrays", path, tmp_path / "a")
    made = prepare("arrays", path, tmp_path / "b", "new_clients=[kim,ann]")
    assert made.client_names == ("bob", "eve", "lee", "ann", "kim")
    assert (made.new_clients, plain.new_clients) == (2, 0)
    held, before = everyone(made)["train"], everyone(plain)["train"]
    for name, own in zip(made.client_names, held, strict=True):
        same = before[plain.client_names.index(name)]
        assert own.inputs["f"].tolist() == same.inputs["f"].tolist()
    trained = np.concatenate([one.target for one in held[:3]])
    assert_allclose(made.target.mean, trained.mean(axis=0), rtol=1e-12)
    assert read_manifest(tmp_path / "b").new_clients == 2


def test_a_share_is_drawn_by_the_seed():
    splits = {"train": [[0]] * 10}
    found = [new_clients_last(0.3, "abcdefghij", splits, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    for one in found:
        assert one.new == 3
        assert sorted(one.order) == list(range(10))
        assert one.order[:7] == sorted(one.order[:7])


def test_clients_without_training_samples_are_new(tmp_path):
    split = np.where(np.arange(100) % 5 == 1, 1, np.arange(100) % 3 == 0)
    path = saved(tmp_path, split=split)
    with pytest.raises(DataError, match=r"bob .*new_clients=untrained"):
        prepare("arrays", path, tmp_path / "a")
    made = prepare("arrays", path, tmp_path / "b", "new_clients=untrained")
    assert made.client_names[-1] == "bob"
    assert made.counts["train"].tolist()[-1] == 0
    assert made.counts["test"].tolist()[-1] == 20
    verify_checksums(made)


def test_they_have_no_part_in_training(tmp_path):
    path = saved(tmp_path, split=np.arange(100) // 5 % 2)
    made = prepare("arrays", path, tmp_path / "a", "new_clients=[kim,ann]")
    keep = np.isin(np.array(NAMES)[np.arange(100) % 5], ["kim", "ann"], invert=True)
    with np.load(path) as stored:
        np.savez(tmp_path / "few.npz", **{k: v[keep] for k, v in stored.items()})
    few = prepare("arrays", tmp_path / "few.npz", tmp_path / "b")
    assert made.target == few.target
    digests = []
    for name in "ab":
        config = experiment(tmp_path / name, task="regression")
        folder = tmp_path / f"run-{name}"
        train(Serial(), validate(config, "test"), directory=folder, progress="none")
        digests.append((folder / "final" / "digest.txt").read_text())
    assert digests[0] == digests[1]
    config = experiment(tmp_path / "a", task="regression", clients=4)
    with pytest.raises(FedAPMError, match="only 3 clients, besides 2 new ones"):
        train(Serial(), validate(config, "test"), directory=tmp_path / "c")


def test_inspect_names_them(tmp_path, capsys):
    prepare("arrays", saved(tmp_path), tmp_path / "a", "new_clients=0.4")
    command(inspect_command, tmp_path / "a")
    assert "clients        5, of which the last 2 are new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("new_clients=[anne]", "no client is called 'anne'; did you mean 'ann'"),
        ("new_clients=1.5", "must be between 0 and 1"),
        ("new_clients=[]", "names no client"),
        ("new_clients=[ann,bob,eve,kim,lee]", "all 5 clients would be new"),
    ],
)
def test_refuses(tmp_path, given, said):
    with pytest.raises(FedAPMError, match=said):
        prepare("arrays", saved(tmp_path), tmp_path / "a", given)
