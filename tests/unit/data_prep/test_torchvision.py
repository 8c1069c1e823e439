"""Classes of torchvision are read from disk, their train and test parts as the split.

The rules are tested on stand-ins that follow torchvision's conventions, and on its own
classes where it is installed.
"""

import pickle
import sys
from hashlib import md5
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import Dataset

from fedapm_mpi.errors import ConfigError, DataError
from tests.support.preparation import everyone, prepare
from tests.unit.data_prep.test_sources import batches, write_fashion

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

N = 12
IID = ("partitioner=iid", "clients=2")


class Vision(Dataset):
    """What the stand-ins have in common: an image of the colour of its number."""

    classes = ("zero", ("one", "uno"), "zero")

    def __init__(self, root, first=0):
        self.root, self.first = root, first

    def __len__(self):
        return N

    def __getitem__(self, k):
        k += self.first
        return Image.new("L", (3, 2), k), k % 3


class Flagged(Vision):
    def __init__(self, root, train=True, transform=None, download=True):
        assert not download
        super().__init__(root, 0 if train else N)


class Parts(Vision):
    values = ("train", "test")

    def __init__(self, root, split="train", version=1, download=False):
        if split not in self.values:
            raise ValueError(f"Unknown value '{split}' for argument split.")
        super().__init__(root, 100 * version + N * self.values.index(split))


class Trainval(Parts):
    values = ("trainval", "test", "valid")


class Odd(Parts):
    values = ("training-part", "testing-part")


class Letters(Flagged):
    def __init__(self, root, split, **kwargs):
        super().__init__(root, **kwargs)
        self.first += {"letters": 50, "digits": 0}[split]


class Whole(Vision):
    classes = None


class Absent(Vision):
    def __init__(self, root, train=True, download=False):
        raise RuntimeError("Dataset not found. You can use download=True")


class Damaged(Whole):
    def __getitem__(self, k):
        if k == 3:
            raise OSError("truncated")
        return super().__getitem__(k)


class Boxes(Whole):
    def __getitem__(self, k):
        return Image.new("L", (3, 2)), [{"bbox": [1, 2]}]


class Sizes(Whole):
    def __getitem__(self, k):
        return Image.new("RGB", (3 + k % 2, 2), (k, 0, 0)), k % 3


class Attributes(Whole):
    def __getitem__(self, k):
        return Image.new("L", (3, 2), k), np.array([k % 2, 1])


MADE = {
    one.__name__: one
    for one in (
        Flagged, Parts, Trainval, Odd, Letters, Whole, Absent, Damaged, Boxes, Sizes,
        Attributes,
    )
}  # fmt: skip


@pytest.fixture
def stand_ins(monkeypatch):
    module = SimpleNamespace(VisionDataset=Vision, **MADE)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


def colours(manifest):
    """Return the colours of the images of each part, sorted."""
    return {
        split: sorted(
            colour
            for arrays in clients
            for colour in arrays.inputs["image"][:, 0, 0, 0].tolist()
        )
        for split, clients in everyone(manifest).items()
    }


def run(first):
    return list(range(first, first + N))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["dataset=Flagged"], {"train": 0, "test": N}),
        (["dataset=Parts"], {"train": 100, "test": 100 + N}),
        (["dataset=Parts", "arguments.version=2"], {"train": 200, "test": 200 + N}),
        (
            ["dataset=Trainval"],
            {"train": 100, "test": 100 + N, "val": 100 + 2 * N},
        ),
        (
            ["dataset=Odd", "parts.train=training-part", "parts.test=testing-part"],
            {"train": 100, "test": 100 + N},
        ),
        (["dataset=Letters", "arguments.split=letters"], {"train": 50, "test": 50 + N}),
    ],
)
@pytest.mark.usefixtures("stand_ins")
def test_parts_of_a_class_are_the_split(tmp_path, options, wanted):
    manifest = prepare("torchvision", tmp_path, tmp_path / "d", *options, *IID)
    assert colours(manifest) == {part: run(first) for part, first in wanted.items()}
    assert manifest.classes == ("zero (0)", "one, uno", "zero (2)")
    assert manifest.dataset == options[0].partition("=")[2].lower()
    spec = manifest.inputs[0]
    assert (spec.name, spec.shape, spec.scale) == ("image", (1, 2, 3), 1 / 127.5)


@pytest.mark.usefixtures("stand_ins")
def test_one_part_is_split_at_random(tmp_path):
    options = ("dataset=Whole", *IID, "test=0.25", "seed=1")
    manifest = prepare("torchvision", tmp_path, tmp_path / "d", *options)
    found = colours(manifest)
    assert sorted(found["train"] + found["test"]) == run(0)
    assert manifest.classes == ("0", "1", "2")


@pytest.mark.usefixtures("stand_ins")
def test_the_manifest_knows_the_samples(tmp_path, capsys, monkeypatch):
    options = ("torchvision", tmp_path, tmp_path / "d", "dataset=Flagged", *IID)
    first = prepare(*options)
    assert "SHA-256 of all samples" in first.preparation["notes"][-1]
    prepare(*options)
    assert "is this very data set: nothing to do" in capsys.readouterr().out
    monkeypatch.setattr(Vision, "__getitem__", lambda s, k: (Image.new("L", (3, 2)), 0))
    with pytest.raises(DataError, match="another data set"):
        prepare(*options)


@pytest.mark.usefixtures("stand_ins")
def test_several_labels_and_sizes(tmp_path):
    options = ("dataset=Attributes", "target=binary", *IID)
    manifest = prepare("torchvision", tmp_path, tmp_path / "a", *options)
    assert (manifest.target.kind, len(manifest.target.names)) == ("binary", 2)
    options = ("dataset=Sizes", "size=4", "colours=grey", *IID)
    manifest = prepare("torchvision", tmp_path, tmp_path / "b", *options)
    assert manifest.inputs[0].shape == (1, 4, 4)


FAULTS = {
    "no class": ("dataset=Flaged", "no data set 'Flaged'; did you mean 'Flagged'"),
    "no data set": ("dataset=VisionDataset", "no data set 'VisionDataset'"),
    "no argument": (
        "dataset=Parts arguments.versoin=2",
        "Parts of torchvision takes no argument 'versoin'; did you mean 'version'",
    ),
    "a function": ("dataset=Flagged arguments.transform=x", "no argument 'transform'"),
    "own argument": ("dataset=Flagged arguments.train=true", "no argument 'train'"),
    "none given": (
        "dataset=Letters",
        "missing 1 required .* 'split'; give it as arguments.KEY=VALUE",
    ),
    "no parts": ("dataset=Whole parts.train=a", "parts says what the argument split"),
    "no such part": ("dataset=Parts parts.all=a", "parts.all: all is none of train"),
    "no such value": ("dataset=Parts parts.train=al", "Unknown value 'al' for argume"),
    "unknown parts": ("dataset=Odd", "has none of the parts train, trainval, test"),
    "absent": (
        "dataset=Absent",
        r"Absent\(train=True\) of torchvision cannot be read \(Dataset not found.*\); "
        "put its files there",
    ),
    "damaged": (
        "dataset=Damaged",
        r"Damaged: item 3 cannot be read \(truncated\); get its files again",
    ),
    "boxes": ("dataset=Boxes", "item 0: its target is a list, not numbers"),
    "sizes": ("dataset=Sizes", "item 1: 'image' has 4 x 2 pixels, .*; set size=N"),
    "vectors": ("dataset=Attributes", "for several targets of a sample set target=bi"),
    "no size": ("dataset=Whole size=0", "size must be at least 1, got 0"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.usefixtures("stand_ins")
def test_what_does_not_fit_is_named(tmp_path, name):
    options, message = FAULTS[name]
    with pytest.raises((DataError, ConfigError), match=message):
        prepare("torchvision", tmp_path, tmp_path / "d", *options.split(), *IID)
    assert not (tmp_path / "d").exists()


def test_without_torchvision_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedapm-mpi\[torchvision\]'"):
        prepare("torchvision", tmp_path, tmp_path / "d", "dataset=MNIST", *IID)


@pytest.fixture
def torchvision():
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # not built for this torch
        pytest.skip(f"torchvision cannot be imported ({error})")
    return datasets


def test_fashion_mnist_is_as_its_own_source_reads_it(tmp_path, torchvision):
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    write_fashion(folder, zipped=False)
    options = ("dataset=FashionMNIST", *IID)
    one = prepare("torchvision", tmp_path, tmp_path / "a", *options)
    two = prepare("fashion-mnist", folder, tmp_path / "b", *IID)
    assert one.classes == two.classes
    assert one.inputs == two.inputs
    for split, clients in everyone(one).items():
        for mine, theirs in zip(clients, everyone(two)[split], strict=True):
            assert (mine.inputs["image"] == theirs.inputs["image"]).all()
            assert (mine.labels == theirs.labels).all()


def test_cifar10_is_as_its_own_source_reads_it(tmp_path, torchvision, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for name, batch in batches().items():
        plain = {key.decode(): value for key, value in batch.items()}
        plain["label_names"] = [n.decode() for n in plain.get("label_names", [])]
        (folder / name).write_bytes(pickle.dumps(plain))
        sums[name] = md5((folder / name).read_bytes()).hexdigest()
    kind = torchvision.CIFAR10
    for listed in ("train_list", "test_list"):
        own = [[name, sums[name]] for name, _ in getattr(kind, listed)]
        monkeypatch.setattr(kind, listed, own)
    meta = kind.meta | {"md5": sums["batches.meta"]}
    monkeypatch.setattr(kind, "meta", meta)
    options = ("dataset=CIFAR10", *IID)
    one = prepare("torchvision", tmp_path, tmp_path / "a", *options)
    for name, batch in batches().items():
        (folder / name).write_bytes(pickle.dumps(batch))
    two = prepare("cifar10", folder, tmp_path / "b", *IID)
    assert one.classes == two.classes
    assert [f.sha256 for f in one.files] == [f.sha256 for f in two.files]
    with pytest.raises(
        DataError, match=r"CIFAR10.train=True. of torchvision cannot be"
    ):
        prepare("torchvision", tmp_path, tmp_path / "c", *options)


@pytest.mark.usefixtures("torchvision")
def test_folders_and_made_up_images(tmp_path):
    for k in range(12):
        folder = tmp_path / "images" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (k, 0, 0)).save(folder / f"{k:02d}.png")
    options = ("dataset=ImageFolder", *IID)
    manifest = prepare("torchvision", tmp_path / "images", tmp_path / "a", *options)
    assert manifest.classes == ("a", "b")
    found = colours(manifest)
    assert sorted(found["train"] + found["test"]) == list(range(12))
    manifest = prepare(
        "torchvision", tmp_path, tmp_path / "b", "dataset=FakeData", *IID,
        "arguments.size=20", "arguments.image_size=[3,4,6]", "arguments.num_classes=3",
    )  # fmt: skip
    assert manifest.inputs[0].shape == (3, 4, 6)
