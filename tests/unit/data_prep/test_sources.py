"""Sources read the published layouts, and say what is wrong with broken ones."""

import gzip
import hashlib
import importlib
import io
import os
import pickle
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.download import Remote, download
from data_prep.sources import cifar10, sources, watch
from data_prep.sources.base import window_scores, window_statistics
from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import ConfigError, DataError


def read(name, path, **options):
    return sources.get(name)(path, **options)


def everything(source):
    """Return the stored inputs by name."""
    rows = np.arange(len(source.table.labels))
    return {c.spec.name: c.fetch(rows) for c in source.table.columns}


def spec(source, name):
    return next(c.spec for c in source.table.columns if c.spec.name == name)


# Arrays


def arrays(n=12):
    rng = np.random.default_rng(0)
    return {
        "x_image": rng.integers(0, 256, (n, 6, 5), np.uint8),
        "x_sound": rng.normal(size=(n, 9, 4)).astype(np.float16),
        "x_facts": rng.integers(-5, 5, (n, 3), np.int16),
        "facts_scale": np.float32(0.5),
        "length": rng.integers(1, 10, n).astype(np.uint8),
        "y": np.arange(n) % 3,
        "client": np.array(["b", "a", "c"])[np.arange(n) // 4],
        "split": np.arange(n) % 2,
        "segment": np.arange(n) // 2,
        "class_names": np.array(["one", "two", "three"]),
    }


@pytest.fixture
def saved(tmp_path):
    def save(drop=(), **changes):
        found = {k: v for k, v in (arrays() | changes).items() if k not in drop}
        path = tmp_path / "made.npz"
        np.savez(path, **found)
        return path

    return save


def test_arrays(saved):
    source = read("arrays", saved(), group="segment")
    raw, got = arrays(), everything(source)
    np.testing.assert_array_equal(got["image"], raw["x_image"][:, None])
    np.testing.assert_array_equal(got["sound"], raw["x_sound"])
    np.testing.assert_array_equal(got["facts"], raw["x_facts"])
    image = spec(source, "image")
    assert (image.shape, image.dtype, image.ragged) == ((1, 6, 5), "uint8", False)
    seen = got["image"] * image.scale + image.shift
    assert seen.min() >= -1
    assert seen.max() <= 1
    assert spec(source, "facts").scale == 0.5
    assert spec(source, "sound").ragged
    assert source.table.classes == ("one", "two", "three")
    assert source.id_names == ("a", "b", "c")
    assert source.ids.tolist() == [1] * 4 + [0] * 4 + [2] * 4
    assert source.split.tolist() == [0, 1] * 6
    assert source.table.dataset == "made"


def test_length_belongs_to_what_has_time(saved):
    """Not to images or plain numbers; the case of av_digits."""
    source = read("arrays", saved())
    lengths = {c.spec.name: c.lengths for c in source.table.columns}
    assert lengths["image"] is None
    assert lengths["facts"] is None
    np.testing.assert_array_equal(lengths["sound"], arrays()["length"])


def test_length_of_one_input(saved):
    path = saved(drop=["length"], length_facts=np.array([1, 2, 3] * 4))
    source = read("arrays", path)
    assert spec(source, "facts").ragged
    assert not spec(source, "sound").ragged


def test_chosen_inputs_in_their_order(saved):
    source = read("arrays", saved(), inputs=("sound", "image"))
    assert [c.spec.name for c in source.table.columns] == ["sound", "image"]
    assert spec(source, "image").shape == (1, 6, 5)


def test_a_series_of_bytes_is_no_image(saved):
    """Its rows are steps of time, all of which count unless it has lengths."""
    source = read("arrays", saved(), series=("image",))
    film = spec(source, "image")
    assert (film.shape, film.dtype, film.ragged) == ((6, 5), "uint8", False)
    assert (film.scale, film.shift) == (1, 0)
    np.testing.assert_array_equal(everything(source)["image"], arrays()["x_image"])
    assert spec(source, "sound").ragged
    scored = read("arrays", saved(), series=("image",), normalise="window")
    x = arrays()["x_image"].astype(float)
    expected = (x - x.mean(axis=1, keepdims=True)) / (
        x.std(axis=1, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(everything(scored)["image"], expected, atol=1e-5)
    lengths = np.arange(12) % 6 + 1
    own = read("arrays", saved(length_image=lengths), series=("image",))
    np.testing.assert_array_equal(own.table.columns[0].lengths, lengths)


def test_colours_come_first(saved):
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 7, 3), np.uint8)
    source = read("arrays", saved(x_image=x))
    assert spec(source, "image").shape == (3, 8, 7)
    np.testing.assert_array_equal(everything(source)["image"], x.transpose(0, 3, 1, 2))
    first = read("arrays", saved(x_image=x.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(
        everything(first)["image"], everything(source)["image"]
    )


def test_own_scale_of_an_image(saved):
    source = read("arrays", saved(image_scale=1 / 255, image_shift=-0.1))
    image = spec(source, "image")
    assert (image.scale, image.shift) == (1 / 255, -0.1)


def test_groups_count_within_a_client(saved):
    segment = np.tile([0, 0, 1, 1], 3)
    source = read("arrays", saved(segment=segment), group="segment")
    assert len(np.unique(source.groups)) == 6
    no_clients = read("arrays", saved(["client"], segment=segment), group="segment")
    assert len(np.unique(no_clients.groups)) == 2


def test_normalise_window(saved):
    source = read("arrays", saved(), normalise="window")
    sound, got = spec(source, "sound"), everything(source)["sound"]
    assert (sound.dtype, sound.scale) == ("float32", 1.0)
    for x, length in zip(got, arrays()["length"], strict=True):
        np.testing.assert_allclose(x[:length].mean(axis=0), 0, atol=1e-5)
        if length > 1:
            np.testing.assert_allclose(x[:length].std(axis=0), 1, atol=1e-3)
        assert not x[length:].any()
    assert spec(source, "facts").dtype == "int16"
    assert spec(source, "image").dtype == "uint8"


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 100), st.floats(-100, 100))
def test_window_scores_know_no_scale_or_shift(seed, scale, shift):
    x = np.random.default_rng(seed).normal(size=(3, 50, 2))
    np.testing.assert_allclose(
        window_scores(x), window_scores(x * scale + shift), atol=1e-3
    )


def test_statistics_of_windows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(3, 20, 2))
    found = window_statistics(x)
    assert found.shape == (3, 14)
    for i in range(3):
        for k in range(2):
            series = x[i, :, k]
            steps = [b - a for a, b in pairwise(series)]
            wanted = [series.mean(), series.std(), min(series), max(series),
                      np.std(steps), np.mean(np.abs(steps)),
                      np.median(series)]  # fmt: skip
            np.testing.assert_allclose(found[i, k::2], wanted, rtol=1e-5)


def test_window_scores_by_hand():
    x = np.array([[[0.0], [2.0]]])
    np.testing.assert_allclose(
        window_scores(x)[0, :, 0], np.array([-1, 1]) / (1 + 1e-5), rtol=1e-6
    )
    assert not window_scores(np.full((1, 4, 1), 7.0)).any()


def test_a_folder_of_npy_is_memory_mapped(tmp_path):
    for key, value in arrays().items():
        np.save(tmp_path / f"{key}.npy", value)
    source = read("arrays", tmp_path)
    np.testing.assert_array_equal(everything(source)["sound"], arrays()["x_sound"])
    assert len(source.files) == len(arrays())
    assert isinstance(source.table.labels, np.memmap)


@pytest.mark.parametrize(
    ("drop", "changes", "options", "message"),
    [
        (["y"], {}, {}, "must hold 'y'"),
        (["x_image", "x_sound", "x_facts"], {}, {}, "at least one 'x_<input>'"),
        ([], {"y": np.arange(11) % 3}, {}, r"there are 11 labels"),
        ([], {"y": np.full(12, 0.5)}, {}, "of sample 0 is 0.5, no whole number"),
        ([], {"y": np.zeros(0, int)}, {}, "integer label"),
        ([], {"y": np.arange(12)}, {}, "label 3 of sample 3 is not in 0 to 2"),
        ([], {"y": np.arange(12) - 1}, {}, "label -1 of sample 0"),
        ([], {"client": np.zeros(5)}, {}, r"'client' has shape \(5,\)"),
        ([], {"x_facts": np.zeros((3, 3))}, {}, r"'x_facts' has shape \(3, 3\)"),
        ([], {"split": np.full(12, 7)}, {}, "'split' of sample 0 is 7"),
        ([], {"length": np.full(12, 10)}, {}, "length 10 of sample 0 is not in 1 to 9"),
        ([], {"length": np.zeros(12, int)}, {}, "length 0 of sample 0"),
        (["x_sound"], {}, {}, r"'length', but no input has .*series=\[image\]"),
        (
            [],
            {"x_size": np.zeros(12), "length_size": np.ones(12, int)},
            {},
            "'length_size', but 'x_size' has no time axis",
        ),
        (
            ["x_image", "x_sound", "x_facts"],
            {"X_train": np.zeros((12, 2))},
            {},
            "'X_train': name it 'x_train'",
        ),
        (
            ["x_sound", "length"],
            {},
            {"normalise": "window"},
            "normalise=window, but no input",
        ),
        ([], {"facts_scale": np.zeros(3)}, {}, "'facts_scale' must be one finite"),
        ([], {"facts_scale": np.array(np.nan)}, {}, "'facts_scale' must be one finite"),
        ([], {"x_facts": np.full((12, 2), "a")}, {}, "'x_facts' must hold numbers"),
        ([], {}, {"inputs": ("sond",)}, "no array 'x_sond'.*did you mean 'sound'"),
        ([], {}, {"series": ("imag",)}, "no array 'x_imag'.*did you mean 'image'"),
        ([], {}, {"inputs": ("image",) * 2}, "inputs names one twice"),
        ([], {}, {"series": ("facts",)}, "names 'facts', which has no time axis"),
        (
            [],
            {},
            {"inputs": ("sound",), "series": ("image",)},
            "names 'image', which is not among the inputs",
        ),
        ([], {}, {"group": "segmnt"}, "no array 'segmnt'.*did you mean 'segment'"),
    ],
)
def test_broken_arrays(saved, drop, changes, options, message):
    with pytest.raises(DataError, match=message) as caught:
        read("arrays", saved(drop, **changes), **options)
    assert "made.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (None, "does not exist"),
        (b"nonsense", "it is neither an .npz nor an .npy file"),
        (b"PK\x03\x04 cut off", "cannot read"),
        (np.zeros(3), "single array"),
        (np.array([{}]), "without pickled objects"),
    ],
)
def test_not_an_npz(tmp_path, contents, message):
    path = tmp_path / "file.npz"
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents is not None:
        with path.open("wb") as file:
            np.save(file, contents, allow_pickle=True)
    with pytest.raises(DataError, match=message):
        read("arrays", path)


def test_objects_in_an_npz(saved):
    with pytest.raises(DataError, match="without pickled objects"):
        read("arrays", saved(client=np.array([{}] * 12)))


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.npy files"):
        read("arrays", tmp_path)


# Fashion-MNIST


def idx(values):
    shape = np.array(values.shape, ">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def write_fashion(folder, zipped=True):
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", 30), ("t10k", 10)):
        x, y = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n)
        made[part] = (x, y)
        for kind, values in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            raw = idx(values)
            name = f"{part}-{kind}-ubyte"
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
            else:
                (folder / name).write_bytes(raw)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist(tmp_path, zipped):
    made = write_fashion(tmp_path, zipped)
    source = read("fashion-mnist", tmp_path)
    image = everything(source)["image"]
    assert image.shape == (40, 1, 28, 28)
    np.testing.assert_array_equal(image[:30, 0], made["train"][0])
    np.testing.assert_array_equal(source.table.labels[30:], made["t10k"][1])
    assert source.split.tolist() == [0] * 30 + [1] * 10
    assert len(source.table.classes) == 10
    assert len(source.files) == 4


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3", lambda raw: None, "holds none"),
        ("train-images-idx3", lambda raw: b"\0\0\x09" + raw[3:], "not an idx file"),
        ("train-labels-idx1", lambda raw: raw[:-1], "has 29 bytes of data"),
        ("t10k-images-idx3", lambda raw: raw + b"x", "bytes of data"),
        ("t10k-images-idx3", lambda raw: raw[:9], "bytes of data|buffer"),
        ("t10k-labels-idx1", lambda raw: idx(np.zeros(9, np.uint8)), "but 9 labels"),
        ("t10k-labels-idx1", lambda raw: b"", "not an idx file"),
    ],
)
def test_broken_fashion_mnist(tmp_path, name, change, message):
    write_fashion(tmp_path, zipped=False)
    path = tmp_path / f"{name}-ubyte"
    changed = change(path.read_bytes())
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)
    with pytest.raises(DataError, match=message):
        read("fashion-mnist", tmp_path)


def test_damaged_gzip(tmp_path):
    write_fashion(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(DataError, match="cannot read"):
        read("fashion-mnist", tmp_path)
    path.write_bytes(raw[:-20])
    with pytest.raises(DataError, match="cannot read"):
        read("fashion-mnist", tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        read("fashion-mnist", path)


# CIFAR-10


def batches(n=4):
    rng = np.random.default_rng(0)
    made = {
        name: {
            b"data": rng.integers(0, 256, (n, 3072), np.uint8),
            b"labels": rng.integers(0, 10, n).tolist(),
        }
        for name in (*cifar10.TRAIN, cifar10.TEST)
    }
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer"]
    names += [b"dog", b"frog", b"horse", b"ship", b"truck"]
    return made | {cifar10.META: {b"label_names": names}}


def python2_pickle(batch):
    """Pickle a batch as Python 2 did, with its byte strings; cPickle's protocol 2."""

    def text(value):
        return b"T" + len(value).to_bytes(4, "little") + value

    if b"label_names" in batch:
        names = b"".join(map(text, batch[b"label_names"]))
        return b"\x80\x02}" + text(b"label_names") + b"](" + names + b"es."
    x, y = batch[b"data"], batch[b"labels"]
    shape = b"".join(b"M" + n.to_bytes(2, "little") for n in x.shape)
    return b"".join(
        [
            b"\x80\x02}(",
            text(b"data"),
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85",
            text(b"b") + b"\x87R(K\x01" + shape + b"\x86cnumpy\ndtype\n",
            text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|"),
            b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            text(x.tobytes()) + b"tb",
            text(b"labels") + b"](" + b"".join(bytes([75, n]) for n in y) + b"e",
            b"u.",
        ]
    )


def write_cifar(folder, made=None, drop=()):
    path = folder / cifar10.ARCHIVE
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in (made or batches()).items():
            if name in drop:
                continue
            raw = batch
            if not isinstance(raw, bytes):
                raw = pickle.dumps(batch, protocol=3) if made else python2_pickle(batch)
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return path


@pytest.mark.parametrize("extracted", [False, True])
def test_cifar10(tmp_path, extracted):
    path = write_cifar(tmp_path)
    if extracted:
        with tarfile.open(path) as archive:
            for member in archive:
                inside = tmp_path / member.name
                inside.parent.mkdir(exist_ok=True)
                inside.write_bytes(archive.extractfile(member).read())
        path.unlink()
        path = tmp_path / cifar10.FOLDER
    for where in (path, tmp_path):
        source = read("cifar10", where)
        image = everything(source)["image"]
        assert image.shape == (24, 3, 32, 32)
        last = batches()[cifar10.TEST]
        np.testing.assert_array_equal(image[20:].reshape(4, -1), last[b"data"])
        assert source.table.labels[20:].tolist() == last[b"labels"]
        assert source.split.tolist() == [0] * 20 + [1] * 4
        assert source.table.classes[9] == "truck"
        assert len(source.files) == (7 if extracted else 1)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("name", "batch", "message"),
    [
        ("data_batch_2", None, "lacks data_batch_2"),
        ("data_batch_2", b"\x80\x02", "data_batch_2 is damaged"),
        ("data_batch_2", [1], "holds a list"),
        ("data_batch_2", {b"data": 1}, "does not hold images"),
        ("data_batch_2", {b"data": Evil()}, "asks for posix.system"),
        (
            "test_batch",
            {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]},
            "does not hold images",
        ),
        (
            "test_batch",
            {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 1.5]},
            "test_batch has the label 1.5 for image 1",
        ),
        ("batches.meta", {b"label_names": [1]}, "not hold the names of the classes"),
        ("batches.meta", {b"label_names": 3}, "not hold the names of the classes"),
    ],
)
def test_broken_cifar10(tmp_path, monkeypatch, name, batch, message):
    monkeypatch.chdir(tmp_path)
    made = batches()
    made[name] = batch
    path = write_cifar(tmp_path, made, drop=[name] if batch is None else [])
    with pytest.raises(DataError, match=message):
        read("cifar10", path)
    assert not Path("evil").exists()


def test_damaged_archive(tmp_path):
    path = write_cifar(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cannot read|lacks"):
        read("cifar10", path)
    with pytest.raises(DataError, match="holds none"):
        read("cifar10", tmp_path / "nowhere")


# Smartwatch


def watch_data(lengths=(700, 650, 900, 500)):
    rng = np.random.default_rng(0)
    return {
        "X": [rng.normal(size=(n, 6)) + np.arange(n)[:, None] for n in lengths],
        "y": np.arange(len(lengths)) % 2,
        "y_labels": ["PEN", "ABD"],
        "subject": np.array([1, 1, 2, 2]),
        "side": np.array([0.0, 0.0, 1.0, 0.0]),
    }


@pytest.fixture
def watch_file(tmp_path, monkeypatch):
    path = tmp_path / watch.FILE
    np.save(path, np.array(watch_data(), dtype=object), allow_pickle=True)
    monkeypatch.setattr(watch, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_watch(watch_file):
    source = read("watch", watch_file)
    got = everything(source)
    assert list(got) == ["acc", "gyro"]
    assert got["acc"].shape[1:] == (128, 3)
    assert got["acc"].dtype == np.float32
    np.testing.assert_allclose(got["gyro"].mean(axis=1), 0, atol=1e-4)
    first = watch_data()["X"][0][:128]
    np.testing.assert_allclose(got["acc"][0], window_scores(first[None, :, :3])[0])
    np.testing.assert_allclose(got["gyro"][0], window_scores(first[None, :, 3:])[0])
    assert source.id_names == ("subject 1 left", "subject 2 left", "subject 2 right")
    assert source.table.classes == ("PEN", "ABD")
    assert source.default_split == "own"


def test_watch_by_statistics(watch_file):
    """The same windows, in the same order, accelerometer and gyroscope apart."""
    windows = read("watch", watch_file)
    source = read("watch", watch_file, features="statistics")
    got = everything(source)
    assert {name: x.shape[1:] for name, x in got.items()} == {
        "acc": (21,), "gyro": (21,),
    }  # fmt: skip
    np.testing.assert_array_equal(source.table.labels, windows.table.labels)
    np.testing.assert_array_equal(source.split, windows.split)
    first = watch_data()["X"][0][None, :128]
    np.testing.assert_array_equal(got["acc"][0], window_statistics(first[..., :3])[0])
    np.testing.assert_array_equal(got["gyro"][0], window_statistics(first[..., 3:])[0])


@given(
    st.integers(2, 400),
    st.integers(2, 60),
    st.integers(1, 60),
    st.floats(0, 0.45),
    st.floats(0, 0.5),
)
def test_no_time_is_in_two_parts(length, window, step, test, val):
    starts, codes = watch._windows(length, window, step, test, val)
    times = [
        {t for s in starts[codes == code].tolist() for t in range(s, s + window)}
        for code in (0, 2, 1)
    ]
    # In this order of time, each part within its own share of the series.
    tested = length - round(length * test)
    edges = [0, tested - round(length * val), tested, length]
    for seen, first, stop in zip(times, edges[:-1], edges[1:], strict=True):
        assert seen <= set(range(first, stop))
        assert min(seen, default=first) == first
    # What is kept for validation changes no test window.
    without, marks = watch._windows(length, window, step, test, 0.0)
    assert starts[codes == 1].tolist() == without[marks == 1].tolist()
    assert 2 not in marks


def test_overlapping_windows_are_one_group(watch_file):
    source = read("watch", watch_file, window=50, step=20, val=0.2)
    of_series = source.groups // 3
    assert sorted(set(of_series.tolist())) == [0, 1, 2, 3]
    np.testing.assert_array_equal(source.groups % 3, source.split)
    assert set(source.split.tolist()) == {0, 1, 2}
    assert read("watch", watch_file, window=50, step=50).groups is None


def test_watch_in_wheel_sdist_and_folder(tmp_path, watch_file):
    raw = watch_file.read_bytes()
    inner = f"seglearn/data/{watch.FILE}"
    wheels, sdists = tmp_path / "w", tmp_path / "s"
    wheels.mkdir()
    sdists.mkdir()
    wheel = wheels / "seglearn-1.2.5-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(inner, raw)
    sdist = sdists / "seglearn-1.2.5.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        member = tarfile.TarInfo(f"seglearn-1.2.5/{inner}")
        member.size = len(raw)
        archive.addfile(member, io.BytesIO(raw))
    expected = everything(read("watch", watch_file))["acc"]
    for path in (tmp_path, wheel, wheels, sdist, sdists):
        np.testing.assert_array_equal(everything(read("watch", path))["acc"], expected)


def test_other_watch_file_is_not_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / watch.FILE
    np.save(path, np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="its SHA-256 is"):
        read("watch", path)
    assert not Path("evil").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"step": 0},
        {"test": 1.0},
        {"test": -0.1},
        {"val": -0.1},
        {"test": 0.5, "val": 0.5},
    ],
)
def test_watch_options(watch_file, options):
    with pytest.raises(ConfigError, match="need >="):
        read("watch", watch_file, **options)


def test_watch_window_longer_than_any_series(watch_file):
    with pytest.raises(DataError, match="smaller window"):
        read("watch", watch_file, window=5000)


@pytest.mark.parametrize("contents", [None, b"", b"PK"])
def test_watch_that_is_not_there(tmp_path, contents):
    path = tmp_path / "seglearn-1.2.5-py3-none-any.whl"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(DataError, match=r"fedapm download watch|holds none"):
        read("watch", path)


def fake_pip(tmp_path, body):
    script = tmp_path / "python"
    script.write_text(f"#!{sys.executable}\nimport sys, pathlib\n{body}\n")
    script.chmod(0o755)
    return str(script)


def test_fetch_watch(tmp_path, watch_file):
    python = fake_pip(
        tmp_path,
        "assert sys.argv[1:4] == ['-m', 'pip', 'download']\n"
        "assert sys.argv[-1] == 'seglearn==1.2.5'\n"
        "import zipfile\n"
        "to = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        "with zipfile.ZipFile(to / 'seglearn-1.2.5-py3-none-any.whl', 'w') as z:\n"
        f"    z.write({str(watch_file)!r}, 'seglearn/data/{watch.FILE}')",
    )
    got = watch.fetch(tmp_path / "new", python)
    assert got.read_bytes() == watch_file.read_bytes()
    assert [p.name for p in got.parent.iterdir()] == [watch.FILE]
    # There already: pip is not asked again.
    assert watch.fetch(tmp_path / "new", "/no/such/python") == got


def test_fetch_watch_without_network(tmp_path, watch_file):
    python = fake_pip(tmp_path, "sys.exit('no network')")
    with pytest.raises(DataError, match=r"pip could not download.*no network"):
        watch.fetch(tmp_path / "new", python)


def test_fetch_watch_without_python(tmp_path):
    with pytest.raises(DataError, match="cannot run"):
        watch.fetch(tmp_path, "/no/such/python")


# Downloads

CONTENTS = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENTS).hexdigest()


class Server(BaseHTTPRequestHandler):
    ranges = True
    breaks_after = None

    def do_GET(self):
        asked = self.headers.get("Range") if self.server.ranges else None
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.server.starts.append(start)
        self.server.agents.append(self.headers["User-Agent"])
        if start >= len(CONTENTS):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENTS) - start))
        self.end_headers()
        self.wfile.write(CONTENTS[start : self.server.breaks_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with HTTPServer(("127.0.0.1", 0), Server) as made:
        made.starts, made.agents = [], []
        made.ranges, made.breaks_after = True, None
        made.address = f"http://127.0.0.1:{made.server_port}/file"
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def remote(server, sha256=SHA256):
    return Remote(server.address, "file", sha256)


def test_download(tmp_path, server):
    seen = []
    to = tmp_path / "new"
    got = download(remote(server), to, lambda done, total: seen.append((done, total)))
    assert got == to / "file"
    assert got.read_bytes() == CONTENTS
    assert seen[-1] == (len(CONTENTS), len(CONTENTS))
    assert download(remote(server), to) == got
    assert server.starts == [0]
    assert server.agents == ["fedapm-mpi"]


@pytest.mark.parametrize("ranges", [True, False])
def test_download_continues(tmp_path, server, ranges):
    server.breaks_after = 300_000
    with pytest.raises(DataError, match="run the same command again"):
        download(remote(server), tmp_path)
    assert not (tmp_path / "file").exists()
    server.breaks_after, server.ranges = None, ranges
    assert download(remote(server), tmp_path).read_bytes() == CONTENTS
    assert server.starts == [0, 300_000 if ranges else 0]


def test_download_complete_but_not_renamed(tmp_path, server):
    (tmp_path / "file.partial").write_bytes(CONTENTS)
    download(remote(server), tmp_path)
    assert server.starts == [len(CONTENTS)]


def test_download_of_another_file(tmp_path, server):
    with pytest.raises(DataError, match="not the expected file"):
        download(remote(server, "0"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_download_without_network(tmp_path):
    with pytest.raises(DataError, match="cannot download"):
        download(Remote("http://127.0.0.1:9/file", "file", SHA256), tmp_path)


def test_download_to_where_nothing_can_be_written(tmp_path, server):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot download"):
        download(remote(server), tmp_path / "file")


@pytest.mark.parametrize("name", ["cifar10", "ku-har"])
def test_the_command_gets_what_a_source_names(
    tmp_path, server, monkeypatch, capsys, name
):
    module = importlib.import_module(f"data_prep.sources.{name.replace('-', '_')}")
    published = module.REMOTE
    assert published.address.startswith("https://")
    assert len(bytes.fromhex(published.sha256)) == 32
    assert published.name == module.ARCHIVE  # which the source looks for in a folder
    here = published._replace(address=server.address, sha256=SHA256)
    monkeypatch.setattr(module, "REMOTE", here)
    assert main(["download", name, str(tmp_path)]) == 0
    file = tmp_path / module.ARCHIVE
    assert file.read_bytes() == CONTENTS
    assert f"fedapm prepare {name} --from {file}" in capsys.readouterr().out


# Real files, where there are any


def shared(name):
    folder = os.environ.get("FEDAPM_SHARED_DATA")
    path = Path(folder or "", name)
    if not folder or not path.exists():
        pytest.skip(f"set FEDAPM_SHARED_DATA to a folder that holds {name}")
    return path


def test_real_hapt():
    source = read("arrays", shared("hapt/hapt.npz"), group="segment")
    assert len(source.table.labels) == 10_969
    assert len(source.id_names) == 30
    assert len(np.unique(source.groups)) == 1214
    np.testing.assert_allclose(spec(source, "acc").scale, 1 / 720, rtol=1e-6)


def test_real_av_digits():
    source = read("arrays", shared("av_digits/av_digits.npz"))
    assert [c.spec.name for c in source.table.columns] == ["image", "mfcc"]
    assert spec(source, "image").shape == (1, 28, 28)
    assert spec(source, "mfcc").ragged
    assert not spec(source, "image").ragged


def test_real_watch():
    path = os.environ.get("FEDAPM_WATCH")
    if not path:
        pytest.skip("set FEDAPM_WATCH to what 'fedapm download watch' got")
    source = read("watch", Path(path))
    assert len(source.id_names) == 20
    assert len(source.table.classes) == 7
    assert len(np.unique(source.groups)) == 280
