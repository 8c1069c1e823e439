"""`fedapm prepare` and `fedapm inspect` from end to end."""

import shutil
import sys

import numpy as np
import pytest

from data_prep import pipeline
from data_prep.pipeline import Settings, plan
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import N, everyone, prepare
from tests.unit.data_prep.test_sources import write_cifar, write_fashion

PARTITIONERS = [
    (),
    ("clients=3",),
    ("partitioner=iid", "clients=7"),
    ("partitioner=dirichlet", "partitioner.beta=0.3", "clients=5"),
    ("partitioner=shards", "partitioner.labels=2", "clients=6"),
]


@pytest.mark.parametrize(
    "extra",
    [("split=random",), ("split=random", "val=0.1"), (), ("split=own", "shards=3")],
)
@pytest.mark.parametrize("options", PARTITIONERS)
@pytest.mark.parametrize("group", [(), ("group=segment",)])
def test_every_sample_once_and_groups_whole(origin, tmp_path, options, extra, group):
    manifest = prepare("arrays", origin, tmp_path / "to", *options, *extra, *group)
    own = "split=random" not in extra
    seen, places = [], {}
    for split, clients in everyone(manifest).items():
        for client, arrays in enumerate(clients):
            numbers = arrays.inputs["number"][:, 0]
            np.testing.assert_array_equal(arrays.labels, numbers % 3)
            seen += numbers.tolist()
            for number in numbers.tolist():
                place = client if own else (client, split)
                if group:
                    assert places.setdefault(number // 4, place) == place
                if own:
                    assert split == ("test" if number % 5 == 0 else "train")
    assert sorted(seen) == list(range(N))
    assert manifest.preparation["split"] == ("own" if own else "random")
    assert ("val" in manifest.counts) == ("val=0.1" in extra)
    assert len(manifest.files) == (3 if "shards=3" in extra else 1)


def test_natural_clients_keep_their_names(origin, tmp_path):
    manifest = prepare("arrays", origin, tmp_path / "a")
    assert manifest.client_names == ("100", "101", "102", "103", "104", "105")
    merged = prepare("arrays", origin, tmp_path / "b", "clients=2")
    assert merged.client_names == ("100 + 102 + 104", "101 + 103 + 105")
    one = prepare("arrays", origin, tmp_path / "c", "clients=1")
    assert one.client_names == ("100 + 101 + 102 + 103 + 2 more",)
    mixed = prepare("arrays", origin, tmp_path / "d", "clients=2", "partitioner=iid")
    assert mixed.client_names == ("client 0", "client 1")


def test_same_preparation_is_not_done_twice(origin, tmp_path, capsys):
    first = prepare("arrays", origin, tmp_path / "to", "seed=3")
    shard = tmp_path / "to" / first.files[0].name
    before = shard.stat().st_mtime_ns
    capsys.readouterr()
    again = prepare("arrays", origin, tmp_path / "to", "seed=3")
    assert "nothing to do" in capsys.readouterr().out
    assert again.sha256 == first.sha256
    assert shard.stat().st_mtime_ns == before


def test_same_preparation_elsewhere_gives_the_same_bytes(origin, tmp_path):
    moved = tmp_path / "other" / "made.npz"
    moved.parent.mkdir()
    shutil.copy(origin, moved)
    options = (
        "partitioner=dirichlet", "clients=4", "seed=5", "split=random", "val=0.1",
        "shards=2",
    )  # fmt: skip
    first = prepare("arrays", origin, tmp_path / "a", *options)
    second = prepare("arrays", moved, tmp_path / "b", *options)
    assert first.sha256 == second.sha256
    other = prepare("arrays", moved, tmp_path / "c", *options, "seed=6")
    assert first.files[0].sha256 != other.files[0].sha256


@pytest.mark.parametrize(
    ("change", "differs"),
    [("seed=4", "seed"), ("test=0.3", "test"), ("clients=3", "clients")],
)
def test_another_preparation_is_refused(origin, tmp_path, change, differs):
    options = ("split=random",)
    first = prepare("arrays", origin, tmp_path / "to", *options)
    with pytest.raises(DataError, match=rf"differ in: {differs}\)"):
        prepare("arrays", origin, tmp_path / "to", *options, change)
    assert read_manifest(tmp_path / "to").sha256 == first.sha256
    forced = prepare("arrays", origin, tmp_path / "to", *options, change, "--force")
    assert forced.sha256 != first.sha256


def test_changed_source_is_another_preparation(origin, tmp_path):
    prepare("arrays", origin, tmp_path / "to")
    np.savez(origin, x_number=np.zeros((N, 1)), y=np.zeros(N, int), client=np.ones(N))
    with pytest.raises(DataError, match="differ in: files"):
        prepare("arrays", origin, tmp_path / "to")


def test_same_preparation_with_a_shard_gone(origin, tmp_path):
    first = prepare("arrays", origin, tmp_path / "to")
    (tmp_path / "to" / first.files[0].name).unlink()
    with pytest.raises(DataError, match="--force prepares it again"):
        prepare("arrays", origin, tmp_path / "to")
    assert prepare("arrays", origin, tmp_path / "to", "--force").sha256 == first.sha256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test": 1.0}, "leave something for training"),
        ({"test": -0.1}, "leave something for training"),
        ({"test": 0.5, "val": 0.5}, "leave something for training"),
        ({"clients": 0}, "clients must be at least 1"),
        ({"shards": 0}, "shards must be at least 1"),
        ({"seed": -1}, "seed must not be negative"),
        ({"split": "mine"}, "split"),
        ({"partitioner": {"beta": 1}}, "needs a name"),
        ({"partitioner": 3}, "needs a name"),
        ({"partitioner": "dirichle"}, "did you mean 'dirichlet'"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ConfigError, match=message):
        plan("arrays", values)


def test_defaults_are_those_of_settings():
    assert plan("fashion_mnist", {}).settings == Settings()
    assert plan("fashion_mnist", {}).source == "fashion-mnist"


def test_source_without_clients_needs_a_partitioner(tmp_path):
    write_fashion(tmp_path)
    words = r"\(partitioners: all-samples, continuous, dirichlet, [a-z, -]*, shards\)"
    with pytest.raises(ConfigError, match=words):
        prepare("fashion-mnist", tmp_path, tmp_path / "to")
    with pytest.raises(ConfigError, match="clients=N"):
        prepare("fashion-mnist", tmp_path, tmp_path / "to", "partitioner=iid")
    assert not (tmp_path / "to").exists()


def test_own_split_must_exist(tmp_path):
    path = tmp_path / "made.npz"
    np.savez(path, x_a=np.zeros((9, 1)), y=np.zeros(9, int), client=np.zeros(9))
    with pytest.raises(ConfigError, match="has no split"):
        prepare("arrays", path, tmp_path / "to", "split=own")


def test_fractions_without_effect_are_refused(origin, tmp_path):
    with pytest.raises(ConfigError, match="test and val would have no effect"):
        prepare("arrays", origin, tmp_path / "to", "split=own", "test=0.3", "val=0.1")
    with pytest.raises(ConfigError, match=r"val would have no effect.* split=random"):
        prepare("arrays", origin, tmp_path / "to", "val=0.1")


def test_client_without_training_samples(tmp_path):
    path = tmp_path / "made.npz"
    np.savez(
        path,
        x_a=np.zeros((4, 1)),
        y=np.zeros(4, int),
        client=[0, 0, 1, 1],
        split=[0, 1, 1, 1],
    )
    message = r"1 \(client 1\) has no training sample: .* all 2 samples .* as test"
    with pytest.raises(DataError, match=message) as caught:
        prepare("arrays", path, tmp_path / "to", "split=own")
    assert "split=random" in str(caught.value)
    assert "min_samples" not in str(caught.value)


def test_bad_value_names_its_sample(tmp_path):
    path = tmp_path / "made.npz"
    x = np.zeros((6, 2), np.float32)
    x[4, 1] = np.inf
    np.savez(path, x_a=x, y=np.zeros(6, int), client=np.zeros(6))
    message = "input 'a' is NaN or infinite in 1 of 6 samples, the first is sample 4"
    with pytest.raises(DataError, match=message):
        prepare("arrays", path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def own_partitioner(pool, num_clients, rng, *, twice: bool = False):
    """Cut the samples in two, as a user's own part may."""
    half = len(pool.labels) // 2
    return [np.arange(half + twice), np.arange(half, len(pool.labels))]


def test_a_users_own_partitioner(origin, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    name = "partitioner=mine:own_partitioner"
    assert prepare("arrays", origin, tmp_path / "to", name).num_clients == 2
    with pytest.raises(DataError, match="sample 60 to 2 clients"):
        prepare("arrays", origin, tmp_path / "b", name, "partitioner.twice=true")


def test_cifar10_and_fashion_mnist_from_their_own_layouts(tmp_path):
    (tmp_path / "fashion").mkdir()
    write_fashion(tmp_path / "fashion")
    write_cifar(tmp_path)
    options = ("clients=3", "partitioner=dirichlet", "partitioner.min_samples=4")
    for source, shape, n in (
        ("cifar10", (3, 32, 32), 24),
        ("fashion_mnist", (1, 28, 28), 40),
    ):
        folder = tmp_path if source == "cifar10" else tmp_path / "fashion"
        manifest = prepare(source, folder, tmp_path / f"to-{source}", *options)
        (image,) = manifest.inputs
        assert (image.shape, image.dtype) == (shape, "uint8")
        held = everyone(manifest)
        assert sum(len(c.labels) for s in held.values() for c in s) == n
        seen = held["train"][0].inputs["image"] * image.scale + image.shift
        x = held["train"][0].inputs["image"] / 255
        np.testing.assert_allclose(seen, (x - 0.5) / 0.5, atol=1e-6)
        assert min(sum(manifest.counts.values())) >= 4


def test_watch_keeps_its_split_in_time(tmp_path, monkeypatch):
    from data_prep.sources import watch
    from tests.unit.data_prep.test_sources import watch_data

    np.save(tmp_path / watch.FILE, np.array(watch_data(), dtype=object))
    monkeypatch.setattr(watch, "SHA256", pipeline.file_sha256(tmp_path / watch.FILE))
    manifest = prepare("watch", tmp_path, tmp_path / "to", "test=0.3", "window=50")
    source = watch.watch(tmp_path, test=0.3, window=50)
    assert manifest.counts["train"].sum() == (source.split == 0).sum()
    assert manifest.client_names[1] == "subject 2 left"
    # An option that the source got later changes no identity of before.
    assert not {"val", "features"} & set(manifest.preparation["source"])
    cut = prepare("watch", tmp_path, tmp_path / "b", "test=0.3", "val=0.2", "window=50")
    assert cut.preparation["source"]["val"] == 0.2
    np.testing.assert_array_equal(cut.counts["test"], manifest.counts["test"])
    assert cut.counts["val"].sum() > 0
    with pytest.raises(ConfigError, match=r"val=0\.001 is too little for one val samp"):
        prepare("watch", tmp_path, tmp_path / "c", "val=0.001", "window=50")
