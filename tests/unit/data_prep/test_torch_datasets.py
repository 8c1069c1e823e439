"""Every item of a PyTorch data set lies where its client and its part are."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from data_prep import write_torch_dataset
from fedapm_mpi.data.reader import verify_checksums
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import everyone

N = 60
WHO = ["ann", "bob", "eve"]
X = torch.arange(N, dtype=torch.float32)[:, None].repeat(1, 3)
Y = torch.arange(N) % 4


class Items(Dataset):
    """The items that a function returns, each once."""

    def __init__(self, item, number=N):
        self.item, self.number, self.asked = item, number, []

    def __len__(self):
        return self.number

    def __getitem__(self, k):
        self.asked.append(k)
        return self.item(k)


def write(directory, data, **options):
    manifest = write_torch_dataset(data, directory, dataset="made", **options)
    verify_checksums(manifest)
    return manifest


def test_pairs_go_to_their_clients(tmp_path):
    clients = [WHO[k % 3] for k in range(N)]
    manifest = write(tmp_path / "d", TensorDataset(X, Y), client=clients, test=0.25)
    assert manifest.client_names == tuple(WHO)
    assert (manifest.inputs[0].name, manifest.inputs[0].shape) == ("x", (3,))
    seen = []
    for clients in everyone(manifest).values():
        for c, arrays in enumerate(clients):
            numbers = arrays.inputs["x"][:, 0]
            assert (numbers % 3 == c).all()
            assert (arrays.labels == numbers % 4).all()
            seen += numbers.tolist()
    assert sorted(seen) == list(range(N))


def mapping(k):
    return {
        "steps": np.full((1 + k % 5, 2), k, np.int16),
        "age": float(k),
        "word": "no input",
        "who": WHO[k % 3],
        "visit": k // 6,
        "label": ("low", "high")[k % 2],
    }


def test_mappings_have_inputs_of_several_lengths(tmp_path):
    data = Items(mapping)
    manifest = write(
        tmp_path / "d", data, client="who", group="visit", inputs=["age", "steps"]
    )
    assert data.asked == list(range(N))  # once each
    assert manifest.classes == ("high", "low")
    age, steps = manifest.inputs
    assert (age.shape, age.dtype) == ((), "float64")
    assert (steps.shape, steps.dtype, steps.ragged) == ((5, 2), "int16", True)
    side = {}
    for split, clients in everyone(manifest).items():
        for c, arrays in enumerate(clients):
            for row, k in enumerate(arrays.inputs["age"].astype(int).tolist()):
                length = arrays.lengths["steps"][row]
                assert length == 1 + k % 5
                assert (arrays.inputs["steps"][row, :length] == k).all()
                assert (arrays.inputs["steps"][row, length:] == 0).all()
                assert arrays.labels[row] == (k % 2 == 0)
                assert side.setdefault((c, k // 6), split) == split


def test_parts_are_the_split(tmp_path):
    parts = {
        "train": TensorDataset(X[:40], Y[:40]),
        "test": TensorDataset(X[40:50], Y[40:50]),
        "validation": TensorDataset(X[50:], Y[50:]),
    }
    manifest = write(
        tmp_path / "d", parts, partitioner="iid", clients=2, classes=list("abcd")
    )
    assert manifest.classes == tuple("abcd")
    edges = {"train": (0, 40), "test": (40, 50), "val": (50, N)}
    for split, clients in everyone(manifest).items():
        numbers = np.concatenate([arrays.inputs["x"][:, 0] for arrays in clients])
        assert sorted(numbers.tolist()) == list(range(*edges[split]))


def test_targets_are_numbers_or_labels(tmp_path):
    real = Items(lambda k: (X[k], k + 0.5))
    manifest = write(tmp_path / "a", real, partitioner="iid", clients=2)
    assert (manifest.target.kind, manifest.target.names) == ("real", ("target",))
    flags = Items(lambda k: (X[k], torch.tensor([k % 2, 1])))
    manifest = write(
        tmp_path / "b", flags, partitioner="iid", clients=2, target="binary",
        target_names=["odd", "any"],
    )  # fmt: skip
    assert manifest.target.names == ("odd", "any")
    assert manifest.target.mean[1] == 1


def test_images_have_colours_first_and_go_from_minus_one_to_one(tmp_path):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(256, size=(N, 5, 4, 3), dtype=np.uint8)
    for name, made in {"pillow": image.fromarray, "bytes": np.asarray}.items():
        data = Items(lambda k, made=made: (made(pixels[k]), k))
        manifest = write(tmp_path / name, data, client=[k % 2 for k in range(N)])
        spec = manifest.inputs[0]
        assert spec.name == ("image" if name == "pillow" else "x")
        assert (spec.shape, spec.dtype) == ((3, 5, 4), "uint8")
        assert (spec.scale, spec.shift) == (1 / 127.5, -1)
        for clients in everyone(manifest).values():
            for arrays in clients:
                wanted = pixels[arrays.labels].transpose(0, 3, 1, 2)
                assert (arrays.inputs[spec.name] == wanted).all()


def test_images_are_scaled_on_request(tmp_path):
    image = pytest.importorskip("PIL.Image")
    data = Items(lambda k: (image.new("L", (4 + k % 2, 3), k), k % 2))
    with pytest.raises(
        DataError, match="item 1: 'image' has 5 x 3 pixels, earlier images 4 x 3; set"
    ):
        write(tmp_path / "a", data, client=["a"] * N)
    manifest = write(tmp_path / "b", data, client=["a"] * N, size=2, colours="rgb")
    assert manifest.inputs[0].shape == (3, 2, 2)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(X[0], 0)])


PAIRS = TensorDataset(X, Y)
FAULTS = {
    "a stream": (Stream(), {}, "a Stream has no length .* data_prep.write_samples"),
    "no data set": ((k for k in "ab"), {}, "a generator has no length"),
    "another part": ({"extra": PAIRS}, {}, "the part 'extra' .* none of train, .*"),
    "nothing": (Items(mapping, 0), {}, "made: there are no samples"),
    "clients": (PAIRS, {"client": ["a"]}, "there are 1 clients for 60 samples; name"),
    "no client": (
        PAIRS,
        {"client": [None, *["a"] * (N - 1)]},
        "the clients must be one text or number for each sample",
    ),
    "no clients": (PAIRS, {}, "names no clients: choose how to make them"),
    "a key of pairs": (PAIRS, {"client": "who"}, "item 0 is a pair, which has no clie"),
    "no key": (
        Items(mapping),
        {"label": "lable"},
        "item 0 has no 'lable'; did you mean 'label'",
    ),
    "a text": (
        Items(mapping),
        {"client": "who"},
        "item 0: 'word' is the text 'no input', not numbers; .* leave it out of the",
    ),
    "three": (Items(lambda k: (1, 2, 3)), {}, "item 0 is a tuple of 3; give .inputs,"),
    "shapes": (
        Items(lambda k: (X[k][: 3 - k, None].T, 0)),
        {},
        r"item 1: 'x' has shape \(1, 2\), earlier samples \(1, 3\); only",
    ),
    "types": (
        Items(lambda k: (X[k] if k else X[k].int(), 0)),
        {},
        "item 1: 'x' is float32, in earlier samples int32; give all of one type",
    ),
    "empty": (Items(lambda k: (X[k][:0], 0)), {}, "so there are no numbers; leave"),
    "names": (
        Items(lambda k: ({"ab"[k % 2]: 1}, 0)),
        {},
        "item 1 has the inputs b, where earlier ones have a; name",
    ),
    "no target": (Items(lambda k: (X[k], None)), {}, "item 0 has no target; give a"),
    "kinds": (
        Items(lambda k: (X[k], Y[: 1 + k])),
        {},
        r"target of sample 1 is of shape \(2,\), that of sample 0 of shape \(1,\)",
    ),
    "a class": (
        PAIRS,
        {"classes": ["a", "b"], "client": ["a"] * N},
        "label 2 of sample 2 is not in 0 to 1",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_named(tmp_path, name):
    data, options, message = FAULTS[name]
    with pytest.raises((DataError, ConfigError), match=message):
        write(tmp_path / "d", data, **options)
    assert not (tmp_path / "d").exists()


def test_values_that_are_not_finite_name_the_sample(tmp_path):
    bad = X.clone()
    bad[7, 1] = float("nan")
    with pytest.raises(DataError, match=r"NaN or infinite in 1 of 60 samples, .* 7"):
        write(tmp_path / "d", TensorDataset(bad, Y), client=["a"] * N)


def test_a_finished_data_set_is_kept(tmp_path):
    first = write(tmp_path / "d", PAIRS, client=["a"] * N)
    with pytest.raises(DataError, match="already holds a finished data set"):
        write(tmp_path / "d", PAIRS, client=["a"] * N)
    again = write(tmp_path / "d", PAIRS, client=["a"] * N, force=True)
    assert again.sha256 == first.sha256


def weighing(k):
    return mapping(k) | {
        "times": k + 1,
        "label": np.array([k, np.nan if k % 5 else 1.0]),
    }


def test_items_have_weights_and_lack_targets(tmp_path):
    manifest = write(
        tmp_path / "d", Items(weighing), client="who", weight="times", target="real",
        inputs=("age",), incomplete=True,
    )  # fmt: skip
    for parts in everyone(manifest).values():
        for own in parts:
            assert (own.weights == own.inputs["age"] + 1).all()
            assert (np.isnan(own.target[:, 1]) == (own.inputs["age"] % 5 > 0)).all()


def test_weights_may_be_a_sequence_with_one_for_each(tmp_path):
    weights = list(range(1, N + 1))
    manifest = write(tmp_path / "d", PAIRS, client=["a"] * N, weight=weights)
    assert manifest.weights
    with pytest.raises(DataError, match="there are 3 weights for 60 samples"):
        write(tmp_path / "e", PAIRS, client=["a"] * N, weight=[1, 2, 3])
