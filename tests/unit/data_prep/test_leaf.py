"""LEAF's JSON files, made here as its scripts make them, become shards."""

import json

import numpy as np
import pytest

from data_prep.sources import sources
from data_prep.sources.sent140 import encode
from data_prep.sources.shakespeare import LETTERS
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.training.runner import train
from tests.support.data.leaf import (
    LAYOUT,
    bytes_of,
    images,
    windows,
    write,
    write_split,
)
from tests.support.preparation import everyone, prepare
from tests.support.processes.cli_runs import experiment


def tweets(user, split, number):
    x = [
        [
            str(k),
            "Mon Apr 06 22:19:45 PDT 2009",
            "NO_QUERY",
            user,
            f"{split} {k} don't!",
        ]
        for k in range(number)
    ]
    return x, [k % 2 for k in range(number)]


MAKERS = {"femnist": images, "shakespeare": windows, "sent140": tweets}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("inside", ["", "data"])
def test_users_and_split_are_those_of_leaf(tmp_path, name, inside):
    write_split(tmp_path / "leaf", MAKERS[name])
    source = sources.get(name)(tmp_path / "leaf" / inside)
    assert source.id_names == ("f0000", "f0001", "f0002")
    assert source.default_split == "own"
    assert len(source.files) == 4
    assert len(source.table.labels) == 3 * 11
    assert np.bincount(source.split).tolist() == [24, 9]
    manifest = prepare(name, tmp_path / "leaf", tmp_path / "to")
    assert manifest.client_names == ("f0000", "f0001", "f0002")
    assert manifest.counts["train"].tolist() == [8, 8, 8]
    assert manifest.counts["test"].tolist() == [3, 3, 3]


def test_images_are_the_bytes_that_they_were(tmp_path):
    write_split(tmp_path, images)
    manifest = prepare("femnist", tmp_path, tmp_path / "to")
    assert len(manifest.classes) == 62
    assert manifest.classes[9:11] + manifest.classes[35:37] == ("9", "A", "Z", "a")
    assert manifest.inputs[0].scale == pytest.approx(1 / 255)
    for split, clients in everyone(manifest).items():
        for user, held in zip(manifest.client_names, clients, strict=True):
            expected = bytes_of(user, split, len(held.labels))
            np.testing.assert_array_equal(
                held.inputs["image"].reshape(-1, 784), expected
            )
            assert held.labels.tolist() == images(user, split, len(expected))[1]


def test_characters_have_leaf_s_codes(tmp_path):
    write_split(tmp_path, windows)
    manifest = prepare("shakespeare", tmp_path, tmp_path / "to")
    assert len(manifest.classes) == 81
    known = LETTERS + "\0"
    for split, clients in everyone(manifest).items():
        for user, held in zip(manifest.client_names, clients, strict=True):
            x, y = windows(user, split, len(held.labels))
            read = ["".join(known[c] for c in row) for row in held.inputs["text"]]
            assert read == x
            assert [known[c] for c in held.labels] == y


def test_other_characters_are_distinguished_from_leaf_s(tmp_path):
    text = ("é_~\x7f\U0001f600" + "}" * 80)[:80]
    write(tmp_path / "all_data.json", {"A": ([text] * 2, ["ß", "}"])})
    source = sources.get("shakespeare")(tmp_path)
    assert source.split is None
    assert source.table.columns[0].fetch(np.array([0]))[0, :6].tolist() == [80] * 5 + [
        79
    ]
    assert source.table.labels.tolist() == [80, 79]


def test_words_are_hashed_and_cut(tmp_path):
    long = " ".join(f"w{k}" for k in range(40))
    x = [["1", "", "", "a", text] for text in ("I don't, YOU?", "", long)]
    write(tmp_path / "all_data.json", {"a": (x, [0, 1, 1])})
    source = sources.get("sent140")(tmp_path, words=10, vocabulary=500)
    column = source.table.columns[0]
    assert column.lengths.tolist() == [5, 1, 10]
    x = column.fetch(np.arange(3))
    assert x[0].tolist() == [*encode("i don't , you ?", 500), *[0] * 5]
    assert x[1].tolist() == [0] * 10
    assert x[2].tolist() == encode(long, 500)[:10]
    assert source.table.labels.tolist() == [0, 1, 1]


def test_codes_of_words():
    assert encode("Hello, hello", 10_000)[0] == encode("HELLO", 10_000)[0]
    many = {code for k in range(5000) for code in encode(f"word{k}", 100)}
    assert many == set(range(1, 100))


def test_split_by_user_is_refused_with_the_true_reason(tmp_path):
    """Test users have nothing to train on; no one else decides to train on them."""
    for split, user in (("train", "f0001"), ("test", "f0002")):
        file = tmp_path / "data" / split / LAYOUT.format(0, split)
        write(file, {user: images(user, split, 10)})
    source = sources.get("femnist")(tmp_path)
    assert source.default_split == "own"
    message = r"f0002 \(client 1\) has no training sample: .* marks all 10 .* as test"
    with pytest.raises(DataError, match=message):
        prepare("femnist", tmp_path, tmp_path / "to")
    manifest = prepare("femnist", tmp_path, tmp_path / "to", "split=random")
    assert manifest.counts["train"].tolist() == [8, 8]


def test_users_without_samples_are_no_clients(tmp_path):
    users = {"none": ([], []), "some": images("f0000", "train", 5)}
    write(tmp_path / "all_data.json", users)
    assert sources.get("femnist")(tmp_path).id_names == ("some",)


def test_trains_under_the_natural_split(tmp_path):
    write_split(tmp_path / "leaf", images)
    prepare("femnist", tmp_path / "leaf", tmp_path / "to")
    config = validate(experiment(tmp_path / "to", rounds=2), "test")
    run = tmp_path / "run"
    assert train(Serial(), config, directory=run, progress="none") == 0
    assert (run / "final" / "digest.txt").exists()


@pytest.mark.parametrize(("name", "codes"), [("shakespeare", 81), ("sent140", 500)])
def test_text_trains_a_transformer(tmp_path, name, codes):
    write_split(tmp_path / "leaf", MAKERS[name])
    more = ("vocabulary=500",) if name == "sent140" else ()
    prepare(name, tmp_path / "leaf", tmp_path / "to", *more)
    model = {"name": "transformer", "vocabulary": {"text": codes}, "width": 8,
             "inner": 8, "layers": 1}  # fmt: skip
    split = {"personal": ["text_*", "token"]}
    config = experiment(tmp_path / "to", rounds=2, model=model, split=split)
    run = tmp_path / "run"
    config = validate(config, "test")
    assert train(Serial(), config, directory=run, progress="none") == 0


def damaged(tmp_path, name, change):
    """Return the message for a file of one user with something done to it."""
    x, y = MAKERS[name]("f0007", "train", 3)
    held = {"users": ["f0007"], "num_samples": [3],
            "user_data": {"f0007": {"x": x, "y": y}}}  # fmt: skip
    change(held)
    path = tmp_path / "all_data.json"
    path.write_text(json.dumps(held))
    with pytest.raises(DataError) as caught:
        sources.get(name)(tmp_path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def set_x(x):
    def change(held):
        held["user_data"]["f0007"]["x"][1] = x

    return change


def set_y(y):
    def change(held):
        held["user_data"]["f0007"]["y"][1] = y

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("femnist", set_x([0.0] * 783), "user 'f0007' has a sample of another kind"),
        ("femnist", set_x([0.0] * 783 + [0.5001]), "bytes divided by 255"),
        ("femnist", set_x([0.0] * 783 + [256 / 255]), "bytes divided by 255"),
        ("femnist", set_x([0.0] * 783 + [-1 / 255]), "bytes divided by 255"),
        ("femnist", set_x([0.0] * 783 + [None]), "bytes divided by 255"),
        ("femnist", set_y(62), "label 62 is not in 0 to 61"),
        ("femnist", set_y(-1), "label -1 is not in"),
        ("femnist", set_y("A"), "another kind"),
        ("shakespeare", set_x("x" * 79), "not a text of 80 characters"),
        ("shakespeare", set_x(3), "not a text of 80 characters"),
        ("shakespeare", set_y("ab"), "'ab' is not a character"),
        ("shakespeare", set_y(3), "3 is not a character"),
        ("sent140", set_x("text"), "not a list of fields with a text"),
        ("sent140", set_x(["a", "b"]), "another kind"),
        ("sent140", set_x(["a", "b", "c", "d", 5]), "not a list of fields"),
        ("sent140", set_y(4), "label 4 is neither 0 nor 1"),
        ("femnist", lambda held: held.pop("num_samples"), "no LEAF file"),
        ("femnist", lambda held: held["user_data"].clear(), "no LEAF file"),
        ("femnist", lambda held: held["num_samples"].append(1), "no LEAF file"),
        (
            "femnist",
            lambda held: held["user_data"]["f0007"].update(x=None),
            "no LEAF file",
        ),
        (
            "femnist",
            lambda held: held.update(num_samples=[4]),
            "has 3 inputs and 3 labels, and should have 4",
        ),
        (
            "femnist",
            lambda held: held["user_data"]["f0007"]["y"].pop(),
            "has 3 inputs and 2 labels",
        ),
    ],
)
def test_damaged_files_are_reported(tmp_path, name, change, message):
    assert message in damaged(tmp_path, name, change)


def test_files_that_are_not_there_or_no_json(tmp_path):
    read = sources.get("femnist")
    with pytest.raises(DataError, match="neither LEAF's train and test nor any JSON"):
        read(tmp_path)
    (tmp_path / "all_data.json").write_text('{"users": [')
    with pytest.raises(DataError, match="no LEAF file, or damaged"):
        read(tmp_path)
    (tmp_path / "all_data.json").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no LEAF file, or damaged"):
        read(tmp_path)
    write(tmp_path / "all_data.json", {"none": ([], [])})
    with pytest.raises(DataError, match="hold no samples"):
        read(tmp_path)
    write(tmp_path / "train" / "a.json", {"f0001": images("f0001", "train", 2)})
    with pytest.raises(DataError, match="test holds no JSON files"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "words must be at least 1"),
        ({"vocabulary": 1}, "vocabulary must be from 2 to 65536"),
        ({"vocabulary": 65537}, "vocabulary must be from 2 to 65536"),
    ],
)
def test_options_of_tweets_are_checked(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        sources.get("sent140")(tmp_path, **options)
