"""What any source gives passes one check, a user's own source among them."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep.column_scales import unscaled
from data_prep.sources import sources
from data_prep.sources.base import Source
from data_prep.validation import MAX_COUNTS, check_size, checked_source
from data_prep.writer import Sample, write_samples
from fedapm_mpi.cli.prepare import _log_note
from fedapm_mpi.data.manifest import InputSpec
from fedapm_mpi.data.table import Column, Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.errors import DataError
from fedapm_mpi.plugins.errors import PluginError
from tests.support.preparation import everyone, prepare
from tests.unit.data_prep.test_image_folder import folder as folder
from tests.unit.data_prep.test_image_folder import lines_of, write_table
from tests.unit.data_prep.test_leaf import LAYOUT, images, write

N = 12


def table(**changes):
    x = column("x", np.zeros((N, 3), np.float32))
    whole = Table("mine", [x], np.arange(N) % 3, ("a", "b", "c"))
    return replace(whole, **changes)


def source(**changes):
    made = Source(
        table(),
        (Path("mine.txt"),),
        ids=np.arange(N) // 6,
        id_names=("ann", "bob"),
        groups=np.arange(N) // 2,
        split=np.arange(N) % 2,
    )
    return replace(made, **changes)


def refused(made):
    with pytest.raises(DataError, match="source 'own'") as caught:
        checked_source(made, "own")
    assert len(str(caught.value)) < 500
    return str(caught.value)


def test_a_sound_source_stays_what_it_is():
    made = source()
    checked = checked_source(made, "own")
    assert checked.table.labels is made.table.labels
    assert checked.table.classes == made.table.classes
    assert checked.ids is made.ids
    assert checked.split.dtype == np.int8
    assert checked.split.tolist() == made.split.tolist()
    assert checked.groups.tolist() == made.groups.tolist()
    assert checked.warnings == ()


def test_lists_and_whole_floats_are_taken():
    made = source(
        table=table(labels=[0.0, 1.0, 2.0] * 4, classes=["a", "b", "c"]),
        ids=[0] * 6 + [1] * 6,
        id_names=["ann", "bob"],
        groups=[10**15, -5] * 6,
        split=["train", "test"] * 6,
    )
    checked = checked_source(made, "own")
    assert checked.table.labels.tolist() == [0, 1, 2] * 4
    assert checked.table.labels.dtype.kind == "i"
    assert checked.table.classes == ("a", "b", "c")
    assert checked.ids.tolist() == [0] * 6 + [1] * 6
    assert checked.groups.tolist() == [1, 0] * 6
    assert checked.split.tolist() == [0, 1] * 6


def lengths(values, *, ragged=True, optional=False, shape=(5, 2)):
    spec = InputSpec("x", shape, "float32", ragged)
    take = column("x", np.zeros((N, *shape), np.float32)).fetch
    return table(columns=[Column(spec, take, values, optional)])


def spec(**changes):
    made = table().columns[0]
    return table(columns=[replace(made, spec=replace(made.spec, **changes))])


ONES = np.ones(N, int)
MASKED = np.ma.array(np.zeros(N, int), mask=np.arange(N) == 3)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (source(table=None), "its table is a NoneType, not a Table"),
        (source(table=table(dataset=None)), "needs the name of the data set"),
        (source(table=table(labels=np.zeros(0, int))), "labels must be one integer"),
        (source(table=table(labels=np.array(["a"] * N))), "labels must be one integer"),
        (source(table=table(labels=None)), "not a NoneType"),
        (source(table=table(labels=np.zeros((N, 2)))), "not float64 of shape (12, 2)"),
        (source(table=table(labels=[[1], [2, 3]])), "labels must be one integer"),
        (source(table=table(labels=np.full(N, np.nan))), "12 of 12 samples have no"),
        (source(table=table(labels=np.full(N, 1.5))), "of sample 0 is 1.5"),
        (source(table=table(labels=ONES * 3)), "label 3 of sample 0 is not in 0 to 2"),
        (source(table=table(labels=ONES * 10**12)), "label 1000000000000 of sample 0"),
        (source(table=table(labels=MASKED)), "labels: 1 of 12 samples are masked"),
        (source(table=table(labels=-ONES)), "label -1 of sample 0"),
        (source(table=table(classes=())), "it has 0 classes"),
        (source(table=table(classes="abc")), "must be a list or tuple, not a str"),
        (source(table=table(classes=(0, 1, 2))), "classes: entry 0 is 0, not a name"),
        (source(table=table(classes=("a", " ", "c"))), "classes: entry 1 is ' '"),
        (source(table=table(classes=("a", "b", "a"))), "classes: 'a' occurs twice"),
        (source(table=table(columns=[])), "inputs must be there"),
        (source(table=table(columns=[1])), "each input must be a Column, not a int"),
        (source(table=table(columns=table().columns * 2)), "named once each"),
        (source(table=spec(dtype="complex64")), "the type 'complex64' (known: uint8,"),
        (source(table=spec(dtype="bool")), "input 'x' has the type 'bool'"),
        (source(table=spec(shape=[3])), "has the shape [3], not a tuple"),
        (source(table=spec(shape=(-1,))), "has the shape (-1,), not a tuple"),
        (source(table=spec(shape=(True,))), "has the shape (True,), not a tuple"),
        (source(table=spec(scale="1")), "scale of input 'x' is '1', not a finite"),
        (source(table=spec(scale=np.inf)), "scale of input 'x' is inf, not a finite"),
        (source(table=spec(scale=True)), "scale of input 'x' is true, not a finite"),
        (source(table=spec(scale=-(10**400))), "scale of input 'x' is -1000"),
        (source(table=spec(shift=np.nan)), "shift of input 'x' is nan, not a finite"),
        (source(table=spec(name="")), "input '' must have a name"),
        (source(table=spec(name=" ")), "input ' ' must have a name"),
        (source(table=spec(ragged=True)), "ragged=True does not go with its lengths"),
        (source(table=lengths(ONES[1:])), "one entry for each of 12 samples"),
        (source(table=lengths(ONES * 6)), "length 6 of sample 0 is not in 1 to 5"),
        (source(table=lengths(ONES * 0)), "length 0 of sample 0 is not in 1 to 5"),
        (source(table=lengths(ONES * np.nan)), "12 of 12 samples have no length"),
        (source(table=lengths(ONES, shape=())), "input 'x' is ragged but has no axis"),
        (source(ids=np.zeros(3, int)), "ids must have one entry for each of 12"),
        (source(ids=np.full(N, np.nan)), "ids: 12 of 12 samples have no number"),
        (source(ids=ONES * 2), "client 2 of sample 0 is not in 0 to 1"),
        (source(ids=-ONES), "client -1 of sample 0 is not in 0 to 1"),
        (source(ids=MASKED), "1 of 12 samples are masked, the first is sample 3"),
        (source(ids=np.array(["ann"] * N)), "ids must be one integer for each sample"),
        (source(id_names=("ann",)), "client 1 of sample 6 is not in 0 to 0"),
        (source(id_names=("ann", "")), "id_names: entry 1 is '', not a name"),
        (source(id_names=("ann", None)), "id_names: entry 1 is None, not a name"),
        (source(id_names=("ann", "nan")), "6 of 12 samples have the client 'nan'"),
        (source(id_names=("ann", "ann")), "id_names: 'ann' occurs twice"),
        (source(id_names=("ann", "b\nb")), r"'b\nb' has characters that cannot"),
        (source(id_names=("ann", "b\udc80")), r"cannot be shown ('\udc80'); rename it"),
        (source(table=table(classes=("a", "b", "\x1b[31m"))), "cannot be shown"),
        (source(groups=np.full(N, np.nan)), "groups: 12 of 12 samples have no number"),
        (source(groups=np.array(["a"] * N)), "groups must be one integer"),
        (source(split=np.zeros(N, bool)), "of truth values it is not known"),
        (source(split=ONES * 300), "split of sample 0 is 300; it must be 0 (train)"),
        (source(split=-ONES), "split of sample 0 is -1; it must be 0 (train)"),
        (source(split=ONES * 0.5), "split of sample 0 is 0.5; it must be 0 (train)"),
        (source(split=ONES[1:]), "split must have one entry for each of 12 samples"),
        (source(files=("mine.txt",)), "files must be paths, not a str"),
    ],
)  # fmt: skip
def test_what_no_source_may_give(made, message):
    assert message in refused(made)


def test_optional_inputs_may_have_no_steps():
    assert checked_source(source(table=lengths(ONES * 0, optional=True)), "own")


def test_names_that_look_alike_are_asked_about():
    made = source(table=table(classes=("cat", "Cat", "dog")), id_names=("bob", "Bob "))
    clients, classes = checked_source(made, "own").warnings
    assert clients.startswith("the clients 'bob' and 'Bob ' differ only in case, spac")
    assert classes.startswith("the classes 'cat' and 'Cat' differ only in case, spaces")


def test_classes_without_samples_are_named(tmp_path, capsys):
    np.savez(tmp_path / "made.npz", x_a=np.zeros((8, 2)), y=np.arange(8) % 2,
             client=np.zeros(8), class_names=["a", "b", "c"])  # fmt: skip
    prepare("arrays", tmp_path / "made.npz", tmp_path / "to")
    assert "note: 1 of 3 classes have no sample (c)" in capsys.readouterr().out


def test_the_number_of_classes_is_bounded(monkeypatch):
    monkeypatch.setattr("data_prep.validation.MAX_CLASSES", 3)
    checked_source(source(), "own")
    four = source(table=table(classes=("a", "b", "c", "d")))
    assert "it has 4 classes, not 1 to 3" in refused(four)


def test_the_table_of_clients_and_classes_is_bounded():
    check_size(1000, 10_000)
    with pytest.raises(DataError, match="use fewer clients or classes"):
        check_size(MAX_COUNTS // 100, 101)


def test_own_sources_are_checked(tmp_path, monkeypatch):
    (tmp_path / "mysource.py").write_text(
        "def nothing(path, *, text: bool = False):\n    return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    said = r"source 'mysource:nothing' returned NoneType; it must return a .*Source"
    with pytest.raises(PluginError, match=said):
        prepare("mysource:nothing", tmp_path, tmp_path / "to")
    sys.modules.pop("mysource")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"default_split": "foo"}, "default_split is 'foo', not 'random', 'own' or"),
        ({"shifts": ("noise",)}, "shifts must be mappings with a name, not a str"),
        ({"shifts": ({"level": 1},)}, "shifts must be mappings with a name"),
    ],
)
def test_what_else_a_source_may_not_give(changes, message):
    assert message in refused(source(**changes))


def test_what_a_column_gives_is_checked_before_it_is_looked_at(tmp_path):
    x = np.ones((N, 3), np.float32)
    for take, message in (
        (lambda rows: x, r"should give float32 of shape \(2, 3\), but gives"),
        (lambda rows: None, "but gives object of"),
        (lambda rows: x[rows].astype(int), "but gives int64"),
    ):
        odd = table(columns=[Column(InputSpec("x", (3,), "float32"), take)])
        with pytest.raises(DataError, match=message):
            unscaled(odd, [np.arange(2)])
    unusable = [Column(InputSpec("x", (3,), "float32"), x)]
    assert "take must be a function" in refused(source(table=table(columns=unusable)))


def test_notes_are_printed_without_control_characters(capsys):
    _log_note("red \x1b[31m" + "x" * 10_000)
    said = capsys.readouterr().out
    assert said.startswith("note: red \\x1b[31mxx")
    assert len(said) < 1100


# A csv of clients


@pytest.mark.parametrize("owner", ["", "  ", "nan", "None", "<NA>"])
def test_lines_without_a_client(folder, owner):
    lines = lines_of(folder)
    lines[4][1] = lines[9][1] = owner
    write_table(folder, lines)
    with pytest.raises(DataError) as caught:
        sources.get("image-folder")(folder, table="owners.csv")
    said = str(caught.value)
    assert f"owners.csv, line 6: {lines[4][0]} has no client" in said
    assert "2 of 30 lines have none" in said


def test_clients_that_pandas_wrote_as_floats(folder, tmp_path, capsys):
    lines = [[file, f"{k % 3}.0"] for k, (file, _) in enumerate(lines_of(folder))]
    write_table(folder, lines)
    manifest = prepare("image_folder", folder, tmp_path / "to", "table=owners.csv")
    assert manifest.client_names == ("0", "1", "2")
    assert "without the decimal point" in capsys.readouterr().out


def test_columns_that_nothing_reads_are_named(folder, tmp_path, capsys):
    lines = [[*line, "train", 3] for line in lines_of(folder)]
    write_table(folder, lines, ("file", "client", "Split", "age"))
    prepare("image_folder", folder, tmp_path / "to", "table=owners.csv")
    said = capsys.readouterr().out
    assert "nothing reads the columns Split, age" in said
    assert "'Split': did you mean 'split'?" in said


@pytest.mark.parametrize(
    ("header", "change", "message"),
    [
        (("file", "client", "client"), lambda line: [*line, 1], "two columns 'client'"),
        (("file", "client", "age"), lambda line: line, "2: it does not have the 3"),
        (("file", "client"), lambda line: [*line, "x"], "2: it does not have the 2"),
    ],
)  # fmt: skip
def test_a_csv_of_another_shape(folder, header, change, message):
    write_table(folder, [change(line) for line in lines_of(folder)], header)
    with pytest.raises(DataError, match=message):
        sources.get("image-folder")(folder, table="owners.csv")


# LEAF


def leaf(tmp_path, **changes):
    x, y = images("f0007", "train", 3)
    held = {"users": ["f0007"], "num_samples": [3],
            "user_data": {"f0007": {"x": x, "y": y}}}  # fmt: skip
    path = tmp_path / "all_data.json"
    path.write_text(json.dumps(held | changes))
    return path


def said_of(path):
    with pytest.raises(DataError) as caught:
        sources.get("femnist")(path)
    assert len(str(caught.value)) < 500 + len(str(path))
    return str(caught.value)


@pytest.mark.parametrize("user", [None, "", " ", "nan", 3, float("nan")])
def test_users_without_a_name(tmp_path, user):
    path = leaf(tmp_path, users=["f0007", user], num_samples=[3, 3])
    assert "1 of 2 users have no name, the first is user 1" in said_of(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 200_000, "RecursionError"),
        ('{"a":' * 200_000, "RecursionError"),
        ("[1, 2]", "no LEAF file"),
        ("3", "no LEAF file"),
        ('{"users": "abc", "num_samples": [1]}', "users are not a list"),
        ('{"users": {"a": 1}, "num_samples": [1]}', "users are not a list"),
        ('{"users": ["a"], "num_samples": 1, "user_data": {}}', "no LEAF file"),
        ('{"users": ["a"], "num_samples": [1], "user_data": [1]}', "no LEAF file"),
        (
            '{"users": ["a"], "num_samples": [1], '
            '"user_data": {"a": {"x": "s", "y": [1]}}}',
            "x and y must be lists, not str",
        ),
        (
            '{"users": ["a", "a"], "num_samples": [1, 1], "user_data": {}}',
            "user 'a' is listed twice",
        ),
        ('{"users": ["a"], "users": ["b"]}', "the key 'users' is given twice"),
        ('{"users": [' + "9" * 5000 + "]}", "no LEAF file"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_json_of_another_shape(tmp_path, text, message):
    path = tmp_path / "all_data.json"
    path.write_text(text)
    assert message in said_of(path)


@pytest.mark.parametrize("label", [1.5, True, "1", None, [1], float("nan"), 10**400])
def test_labels_of_leaf_are_whole_numbers(tmp_path, label):
    x, y = images("f0007", "train", 3)
    y[1] = label
    said = said_of(leaf(tmp_path, user_data={"f0007": {"x": x, "y": y}}))
    assert "user 'f0007' has a sample of another kind: label" in said


def test_whole_labels_of_leaf(tmp_path):
    x, y = images("f0007", "train", 3)
    path = leaf(tmp_path, user_data={"f0007": {"x": x, "y": [float(n) for n in y]}})
    assert sources.get("femnist")(path).table.labels.tolist() == list(y)


def test_a_pipe_among_files_of_leaf(tmp_path):
    os.mkfifo(tmp_path / "all_data.json")
    assert "not a regular file" in said_of(tmp_path)


def test_femnist_is_not_asked_about(tmp_path, capsys):
    users = {"f0000": images("f0000", "train", 30)}
    write(tmp_path / LAYOUT.format(0, "train"), users)
    prepare("femnist", tmp_path, tmp_path / "to")
    assert "is it" not in capsys.readouterr().out


# write_samples, write_dataset


def spooled(tmp_path, *samples, classes=("a", "b")):
    return write_samples(
        tmp_path / "to",
        samples,
        dataset="made",
        inputs=[InputSpec("x", (2,), "float32")],
        classes=classes,
    )


def sample(client="ann", split="train", label=0, **changes):
    return Sample(client, split, {"x": np.zeros(2, np.float32)}, label)._replace(
        **changes
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sample(None), "sample 1 has no client (None)"),
        (sample(float("nan")), "sample 1 has no client (nan)"),
        (sample(np.float32("nan")), "sample 1 has no client"),
        (sample(np.datetime64("NaT")), "sample 1 has no client"),
        (sample(""), "sample 1 has no client ('')"),
        (sample(" "), "sample 1 has no client (' ')"),
        (sample(b""), "sample 1 has no client ('')"),
        (sample("nan"), "sample 1 has no client ('nan')"),
        (sample("a\nb"), "has characters that cannot be shown"),
        (sample(3), "the client 3 cannot be sorted among others such as 'ann'"),
        (sample(["ann"]), "cannot be sorted among others"),
        (sample(label=1.5), "label 1.5 is not in 0 to 1"),
        (sample(label=float("nan")), "label nan is not in 0 to 1"),
        (sample(label="1"), "label '1' is not in 0 to 1"),
        (sample(label=None), "label None is not in 0 to 1"),
        (sample(label=10**30), "label 1000000000000000000000000000000 is not in"),
        (sample(split=None), "the split is None"),
        (sample(split=0), "the split is 0"),
        (sample(inputs=None), "its inputs are no mapping"),
        (sample(inputs={"x": [[1], [2, 3]]}), "input 'x' is no array"),
        (sample(inputs={"x": ["a", "b"]}), "input 'x' is <U1 (2,)"),
        (("ann", "train", {}, 0), "sample 1 is a tuple, not a Sample"),
        (
            sample(inputs={"x": np.ma.array([1, 2], mask=[0, 1])}),
            "input 'x' has masked values; fill them",
        ),
        (
            sample(inputs={"x": np.array([1e300, 0])}),
            "input 'x' has values beyond what float32 can hold",
        ),
    ],
)
def test_samples_that_cannot_be_written(tmp_path, bad, message):
    with pytest.raises(DataError) as caught:
        spooled(tmp_path, sample(), bad)
    assert message in str(caught.value)


@pytest.mark.parametrize("client", [2.0**53, np.float32(2**24), np.float16(-(2**11))])
def test_floats_that_may_stand_for_two_clients(tmp_path, client):
    with pytest.raises(DataError, match=r"the client .* may stand for sev"):
        spooled(tmp_path, sample(client))


def announced(**changes):
    return replace(InputSpec("x", (2,), "float32"), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "classes must be named, each by a text"),
        ({"classes": (1, 2)}, "classes must be named, each by a text"),
        ({"classes": ("a", "a")}, "a class name is given twice"),
        ({"inputs": []}, "there must be inputs, each with a name of its own"),
        (
            {"inputs": [announced(), announced()]},
            "there must be inputs, each with a name of",
        ),
        ({"inputs": [announced(name=3)]}, "the name of an input is 3, not a text"),
        ({"inputs": [announced(dtype="float33")]}, "the type 'float33' (known: "),
        ({"inputs": [announced(dtype=np.float32)]}, "the type <class "),
        ({"inputs": [announced(shape=(2.0,))]}, "the shape (2.0,), not a tuple"),
        ({"inputs": [announced(shape=[2])]}, "the shape [2], not a tuple"),
        ({"inputs": [announced(shape=(0,))]}, "the shape (0,), not a tuple"),
        ({"inputs": [announced(scale=float("nan"))]}, "scale of input 'x' is nan, not"),
        ({"inputs": [announced(shift="1")]}, "shift of input 'x' is '1', not"),
        ({"compression": "bzip"}, "compression='bzip' is unknown (known: gzip"),
    ],
)
def test_what_is_announced_is_checked_before_anything_is_written(
    tmp_path, changes, message
):
    given = {"inputs": [announced()], "classes": ("a", "b")}
    with pytest.raises(DataError) as caught:
        write_samples(tmp_path / "to", [sample()], dataset="made", **(given | changes))
    assert message in str(caught.value)
    assert not list(tmp_path.glob("to/*"))


def test_masked_inputs_are_refused(tmp_path):
    """The numbers below a mask are no samples."""
    values = np.ma.array(np.ones((N, 1)), mask=np.arange(N)[:, None] == 7)
    masked = Column(InputSpec("x", (1,), "float64"), lambda rows: values[rows])
    parts = {"train": [np.arange(6)], "test": [np.arange(6, 12)]}
    with pytest.raises(DataError, match="input 'x' of sample 7 has masked values"):
        write_dataset(tmp_path / "to", table(columns=[masked]), parts)


def test_whole_floats_are_labels_and_clients(tmp_path):
    samples = [
        sample(client, split, label)
        for client, label in ((10.0, 1.0), (2, np.int8(0)), (np.float64(2), True))
        for split in ("train", "test")
    ]
    manifest = spooled(tmp_path, *samples)
    assert manifest.client_names == ("2", "10")
    assert manifest.label_counts["train"].tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        (
            {},
            [0, N],
            "train of client 0 lists sample 12, but there are samples 0 to 11",
        ),
        ({}, [0, -1], "train of client 0 lists sample -1"),
        ({"columns": lengths(ONES * 1.5).columns}, [0], "one integer for each sample"),
        ({"columns": lengths(ONES * np.nan).columns}, [0], "one integer for each"),
    ],
)
def test_tables_that_cannot_be_written(tmp_path, changes, rows, message):
    parts = {"train": [np.array(rows)], "test": [np.array([1])]}
    with pytest.raises(DataError, match=message):
        write_dataset(tmp_path / "to", table(**changes), parts)


def test_an_input_that_gives_a_list(tmp_path):
    """Of an own source: refused if it is of another type, else taken."""
    take = column("x", np.ones((N, 1), np.int64)).fetch
    listed = Column(InputSpec("x", (1,), "int64"), lambda rows: take(rows).tolist())
    parts = {"train": [np.arange(6)], "test": [np.arange(6, 12)]}
    manifest = write_dataset(tmp_path / "to", table(columns=[listed]), parts)
    assert (everyone(manifest)["train"][0].inputs["x"] == 1).all()
    listed = replace(listed, spec=replace(listed.spec, dtype="int8"))
    with pytest.raises(DataError, match="should give int8 of shape"):
        write_dataset(tmp_path / "other", table(columns=[listed]), parts)
