"""Any iterator of samples becomes shards, in bounded memory."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from data_prep.writer import Sample, write_samples
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.reader import ShardReader, verify_checksums
from fedapm_mpi.errors import DataError
from tests.support.preparation import everyone

INPUTS = (
    InputSpec("x", (2, 3), "float32"),
    InputSpec("steps", (5, 2), "int16", ragged=True, scale=0.5),
    InputSpec("age", (), "uint8"),
)
PEOPLE = ("bob", "ann", "eve")


def one(k):
    """The k-th sample, its number in all it holds."""
    return Sample(
        PEOPLE[k * k % 7 % 3],
        ("train", "train", "test", "val")[k % 4],
        {"x": np.full((2, 3), k), "steps": np.full((1 + k % 5, 2), k), "age": k},
        k % 4,
    )


def write(directory, samples, **options):
    return write_samples(
        directory,
        samples,
        dataset="made",
        inputs=INPUTS,
        classes=list("abcd"),
        **options,
    )


@pytest.mark.parametrize("shards", [None, 2])
def test_every_sample_lies_with_its_client_in_its_order(tmp_path, shards):
    manifest = write(tmp_path / "to", (one(k) for k in range(100)), shards=shards)
    verify_checksums(manifest)
    assert manifest.client_names == ("ann", "bob", "eve")
    assert manifest.dataset == "made"
    assert len(manifest.files) == (shards or 1)
    assert manifest.inputs == INPUTS
    for split, clients in everyone(manifest).items():
        for name, held in zip(manifest.client_names, clients, strict=True):
            own = [
                k for k in range(100) if one(k).client == name and one(k).split == split
            ]
            assert held.inputs["age"].tolist() == own
            assert held.labels.tolist() == [k % 4 for k in own]
            assert held.lengths["steps"].tolist() == [1 + k % 5 for k in own]
            for k, x, steps in zip(
                own, held.inputs["x"], held.inputs["steps"], strict=True
            ):
                assert (x == k).all()
                assert (steps[: 1 + k % 5] == k).all()
                assert (steps[1 + k % 5 :] == 0).all()
    assert [p.name for p in (tmp_path / "to").iterdir() if p.name[0] == "."] == []


def test_the_order_of_clients_does_not_matter(tmp_path):
    samples = [one(k) for k in range(60)]
    first = write(tmp_path / "a", samples)
    second = write(tmp_path / "b", sorted(samples, key=lambda s: s.client))
    assert first.sha256 == second.sha256


def test_each_sample_has_a_number_of_its_own(tmp_path):
    """Counted client by client, in a client as they came, whatever their split."""
    manifest = write(tmp_path / "to", (one(k) for k in range(60)))
    reader, stop = ShardReader(manifest), 0
    for client in range(manifest.num_clients):
        held = {split: reader.rows(client, split).tolist() for split in manifest.counts}
        ages = {
            split: reader.read(client, split).inputs["age"].tolist() for split in held
        }
        number = {k: n for s in held for k, n in zip(ages[s], held[s], strict=True)}
        assert [number[k] for k in sorted(number)] == list(
            range(stop, stop + len(number))
        )
        stop += len(number)
    assert stop == 60
    reader.close()


def test_numbers_of_clients_are_sorted_as_numbers(tmp_path):
    samples = [one(k)._replace(client=k % 12, split="train") for k in range(24)]
    manifest = write(tmp_path / "to", samples)
    assert manifest.client_names == tuple(map(str, range(12)))
    assert set(manifest.counts) == {"train", "test"}


def changed(**inputs):
    return one(3)._replace(inputs=one(3).inputs | inputs)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            one(3)._replace(split="dev"),
            "the split is 'dev', not one of train, test, val",
        ),
        (one(3)._replace(label=4), "label 4 is not in 0 to 3"),
        (one(3)._replace(label=-1), "label -1 is not in 0 to 3"),
        (
            one(3)._replace(inputs={"x": 1}),
            "it has the inputs x, announced are x, steps",
        ),
        (changed(x=np.zeros((3, 2))), r"'x' is float64 \(3, 2\), announced is float32"),
        (changed(x=np.zeros((2, 3), complex)), "'x' is complex128"),
        (changed(age=0.5), "'age' is float64"),
        (changed(age=256), "'age' is int64"),
        (changed(age=-1), "'age' is int64"),
        (changed(steps=np.zeros((6, 2), int)), r"int16 up to \(5, 2\)"),
        (changed(steps=np.zeros((0, 2), int)), r"int64 \(0, 2\)"),
        (changed(steps=np.zeros((3, 1), int)), r"int64 \(3, 1\)"),
        (changed(steps=np.zeros(3, int)), r"int64 \(3,\)"),
    ],
)
def test_a_sample_that_is_not_as_announced(tmp_path, sample, message):
    samples = [one(0), one(1), sample]
    with pytest.raises(DataError, match=f"sample 2, of client '...'.*: .*{message}"):
        write(tmp_path / "to", samples)
    assert not (tmp_path / "to").exists()


def test_what_can_not_be_written(tmp_path):
    with pytest.raises(DataError, match="there are no samples"):
        write(tmp_path / "to", [])
    with pytest.raises(DataError, match=r"ann .* has no training sample"):
        write(tmp_path / "to", [one(0), one(2)._replace(client="ann")])
    write(tmp_path / "to", [one(0)])
    with pytest.raises(DataError, match="already holds a finished data set"):
        write(tmp_path / "to", [one(1)])
    (manifest,) = [write(tmp_path / "to", [one(1)], force=True)]
    assert everyone(manifest)["train"][0].inputs["age"].tolist() == [1]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot spool samples in"):
        write(tmp_path / "new", [one(0)], scratch=tmp_path / "file")


def test_an_iterator_that_fails_leaves_nothing(tmp_path):
    def failing():
        yield one(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(tmp_path / "to", failing(), scratch=tmp_path / "scratch")
    assert not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "scratch").exists()


def test_memory_does_not_grow_with_the_inputs(tmp_path):
    """Five times as much data as memory may grow by, the clients of it shuffled."""
    script = textwrap.dedent("""
        import resource, sys
        import numpy as np
        from data_prep.writer import Sample, write_samples
        from fedapm_mpi.data.manifest import InputSpec

        def samples(number):
            x = np.zeros((256, 256), np.float32)
            for k in range(number):
                x[0, 0] = k
                yield Sample(k * 7 % 10, ("train", "test")[k % 3 == 0], {"x": x}, 0)

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        def write(name, number):
            write_samples(
                sys.argv[1] + name, samples(number), dataset="big", classes=["a"],
                inputs=[InputSpec("x", (256, 256), "float32")],
            )

        write("/small", 40)
        before = peak()
        write("/big", 800)
        print(peak() - before)
    """)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=True, env=os.environ, timeout=120,
    )  # fmt: skip
    assert float(done.stdout) < 40


def test_the_writer_is_public():
    import data_prep

    assert data_prep.write_samples is write_samples
    assert data_prep.Sample is Sample
    with pytest.raises(AttributeError, match="no attribute 'sample'"):
        data_prep.sample  # noqa: B018


@pytest.mark.parametrize(
    ("target", "names", "label"),
    [
        ("real", (), lambda k: k / 8),
        ("real", ("a", "b"), lambda k: [k, -k]),
        ("binary", ("cat", "dog"), lambda k: (k % 2, k % 3 == 0)),
    ],
)
def test_labels_may_be_targets(tmp_path, target, names, label):
    manifest = write_samples(
        tmp_path / "to",
        (one(k)._replace(label=label(k)) for k in range(100)),
        dataset="made",
        inputs=INPUTS,
        target=target,
        target_names=names,
    )
    assert (manifest.target.kind, manifest.target.names) == (
        target,
        names or ("target",),
    )
    for clients in everyone(manifest).values():
        for held in clients:
            wanted = [label(k) for k in held.inputs["age"].tolist()]
            assert (
                held.target.reshape(np.shape(wanted)).tolist()
                == np.array(wanted, float).tolist()
            )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, [1, 2]], r"sample 1, of .*: its target is \[1, 2\], not 1 finite"),
        ([float("nan")], "sample 0, of .* is nan, not 1 finite"),
        (["high"], "its target is 'high', not one or several"),
        ([[]], r"its target is \[\], not one or several"),
    ],
)
def test_faulty_targets_are_named(tmp_path, labels, message):
    samples = (one(k)._replace(label=label) for k, label in enumerate(labels))
    with pytest.raises(DataError, match=message):
        write_samples(
            tmp_path / "to", samples, dataset="made", inputs=INPUTS, target="real"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either classes or target"),
        ({"classes": ["a"], "target": "real"}, "give either classes or target"),
        ({"classes": ["a"], "target_names": ["b"]}, "target_names has no effect"),
    ],
)
def test_what_labels_are_is_said_once(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        write_samples(tmp_path / "to", [], dataset="made", inputs=INPUTS, **options)


TEXT = (InputSpec("text", (4,), "uint8", ragged=True, codes=9),)


def texts(labels):
    return [
        Sample("ann", "train" if k else "test", {"text": [k, 8]}, label)
        for k, label in enumerate(labels)
    ]


def test_labels_may_be_classes_of_positions(tmp_path):
    labels = [[0, 2, -1], np.array([1, -7, 2]), [2, 2, 2]]
    manifest = write_samples(
        tmp_path / "to",
        texts(labels),
        dataset="made",
        inputs=TEXT,
        classes=list("abc"),
        target="dense",
    )
    assert (manifest.target.names, manifest.target.shape) == (tuple("abc"), (3,))
    assert manifest.inputs[0].codes == 9
    (held,) = everyone(manifest)["train"]
    assert held.target.tolist() == [[1, -1, 2], [2, 2, 2]]
    assert held.inputs["text"].tolist() == [[1, 8, 0, 0], [2, 8, 0, 0]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1], [0, 1, 2]], r"sample 1, .* not integers of shape \(2,\), as before"),
        ([[0.5]], "not integers, one for each position"),
        ([3], "not integers, one for each position"),
        ([[0, 9]], "is 9, but there are 3 class names"),
    ],
)
def test_faulty_classes_of_positions_are_named(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        write_samples(
            tmp_path / "to",
            texts(labels),
            dataset="made",
            inputs=TEXT,
            classes=list("abc"),
            target="dense",
        )


def test_samples_with_weights_that_lack_targets(tmp_path):
    def samples():
        for k in range(12):
            target = (float(k), np.nan) if k % 3 else (np.nan, 2.0 * k)
            yield Sample(k % 2, "train", {"age": k}, target, weight=k + 1)
            yield Sample(k % 2, "test", {"age": k}, (1.0, 2.0), weight=0.5)

    manifest = write_samples(
        tmp_path / "d", samples(), dataset="made", inputs=INPUTS[2:], target="real",
        incomplete=True,
    )  # fmt: skip
    for own in everyone(manifest)["train"]:
        assert (own.weights == own.inputs["age"] + 1).all()
        assert (np.isnan(own.target[:, 0]) == (own.inputs["age"] % 3 == 0)).all()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1, None, 2], "sample 1 or one before has no weight"),
        ([None, 1, 1], "sample 1 or one before has no weight"),
        ([1, -1, 1], "sample 1 has the weight -1, not a number above 0"),
        ([1, 1, "heavy"], "sample 2 has the weight 'heavy'"),
    ],
)
def test_weights_are_for_all_samples_or_for_none(tmp_path, weights, said):
    samples = [one(k)._replace(weight=weight) for k, weight in enumerate(weights)]
    with pytest.raises(DataError, match=said):
        write(tmp_path / "to", samples)
