"""Roles of columns that are in memory, without a file."""

import numpy as np
import pyarrow as pa
import pytest

from data_prep.table_columns import ColumnBuilder, Columns
from data_prep.table_roles import Roles, source_of
from fedapm_mpi.data.table import column
from fedapm_mpi.errors import ConfigError, DataError

N = 6


def columns(**entries):
    """Return columns; a tuple is the names of classes and their numbers."""
    found = {}
    for name, values in entries.items():
        classes = ()
        if isinstance(values, tuple):
            classes, values = values
        builder = ColumnBuilder(name, name == "who", classes)
        builder.add(pa.array(values[:2]), "made")
        builder.add(pa.array(values[2:]), "made")
        found[name] = builder.done()
    return Columns((), (0, N), found, "made")


def source(made, arrays=None, **roles):
    names = [*made.found, *(arrays or {})]
    return source_of(made, names, Roles(**roles), "set", "made", arrays)


CLASSES = (["no", "maybe", "yes"], [2, 0, 0, 2, 2, 0])


def test_classes_keep_their_order_and_those_without_a_sample():
    made = source(columns(y=CLASSES, a=[1] * N), target=("y",))
    assert made.table.classes == ("no", "maybe", "yes")
    assert made.table.labels.tolist() == CLASSES[1]


def test_classes_that_name_clients_are_those_that_occur():
    made = source(
        columns(y=[0, 1] * 3, who=[3, 3, 7, 7, 3, 7], c=CLASSES, a=[1] * N),
        target=("y",), client="c", group="who",
    )  # fmt: skip
    assert made.id_names == ("no", "yes")
    assert made.ids.tolist() == [1, 0, 0, 1, 1, 0]
    assert len(set(made.groups.tolist())) == 4  # of each client its own


def test_clients_by_several_columns():
    made = columns(
        y=[0, 1] * 3, who=["10", "2", "2", "10", "2", "2"], c=CLASSES, a=[1] * N
    )
    several = source(made, target=("y",), client=("who", "c"))
    assert several.id_names == ("2 / no", "2 / yes", "10 / yes")
    assert several.ids.tolist() == [2, 0, 0, 2, 1, 0]
    swapped = source(made, target=("y",), client=("c", "who"))
    assert swapped.id_names == ("no / 2", "yes / 2", "yes / 10")
    alone, one = (source(made, target=("y",), client=c) for c in ("who", ("who",)))
    assert alone.id_names == one.id_names == ("2", "10")
    assert alone.ids.tolist() == one.ids.tolist()
    assert [c.spec.shape for c in several.fit(several.table, np.arange(N)).columns]
    with pytest.raises(ConfigError, match="client names no column"):
        source(made, target=("y",), client=())


def test_classes_as_inputs_are_categories():
    made = source(columns(y=[0, 1] * 3, c=CLASSES), target=("y",))
    fitted = made.fit(made.table, np.arange(N))
    assert fitted.encoding[0]["categories"] == ["no", "yes"]
    x = fitted.columns[0].fetch(np.arange(N))
    assert x.argmax(axis=1).tolist() == [1, 0, 0, 1, 1, 0]


def test_arrays_are_inputs_as_they_are():
    image = column("image", np.arange(N * 4, dtype=np.uint8).reshape(N, 4))
    both = source(columns(y=[0, 1] * 3, a=[1.5] * N), {"image": image}, target=("y",))
    fitted = both.fit(both.table, np.arange(N))
    assert [c.spec.name for c in fitted.columns] == ["x", "image"]
    alone = source(columns(y=[0, 1] * 3), {"image": image}, target=("y",))
    assert alone.fit is None
    assert [c.spec.name for c in alone.table.columns] == ["image"]
    image = column("x", np.zeros((N, 4)))
    named = source(columns(y=[0, 1] * 3, a=[1] * N), {"x": image}, target=("y",))
    assert [c.spec.name for c in named.table.columns] == ["columns", "x"]


def test_a_class_that_is_missing_or_unknown_is_named():
    odd = (["no", "yes"], [0, 1, -1, 0, 1, 0])
    with pytest.raises(DataError, match="made, row 2: the target 'y' has no value"):
        source(columns(y=odd, a=[1] * N), target=("y",))
    with pytest.raises(DataError, match="'y' has the class 2, but its classes are 0"):
        columns(y=(["no", "yes"], [0, 1, 2, 0, 1, 0]))


def test_inputs_and_drop_exclude_each_other():
    with pytest.raises(ConfigError, match="drop has no effect with inputs"):
        Roles(target=("y",), inputs=("a",), drop=("b",))


def test_rows_have_weights():
    made = source(
        columns(y=[0, 1] * 3, w=[1, 2, 3, 4, 5, 0.5], a=[1] * N),
        target=("y",),
        weight="w",
    )
    assert made.table.weights.tolist() == [1, 2, 3, 4, 5, 0.5]
    fitted = made.fit(made.table, np.arange(N))
    assert [one["column"] for one in fitted.encoding] == ["a"]
    assert fitted.weights is made.table.weights


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (
            [1, 2, 0, 4, -5, 6],
            "row 2: the weight 'w' has no number above 0 there, nor in one",
        ),
        (
            [1, 2, None, 4, 5, 6],
            "row 2: the weight 'w' has no number above 0 there; leave",
        ),
        (list("abcdef"), "weights 'w' has texts, not numbers"),
    ],
)
def test_weights_that_cannot_be(weights, said):
    made = columns(y=[0, 1] * 3, w=weights, a=[1] * N)
    with pytest.raises(DataError, match=said):
        source(made, target=("y",), weight="w")


LACKING = {"u": [0.5, None, 1, 2, None, 3], "v": [None, 7, 1, 2, 8, 3]}


def test_rows_may_lack_some_targets():
    made = source(columns(**LACKING, a=[1] * N), target=("u", "v"), incomplete=True)
    target = made.table.target
    assert (target.kind, target.incomplete) == ("real", True)
    assert np.isnan(target.values).sum(axis=0).tolist() == [2, 1]
    labels = columns(u=[0, 1, None, 1, 0, 1], v=[1, None, 1, 1, 0, 0], a=[1] * N)
    made = source(labels, target=("u", "v"), incomplete=True)
    assert made.table.target.kind == "binary"


@pytest.mark.parametrize(
    ("changes", "target", "said"),
    [
        ({"v": [None, None, 1, 2, 8, 3]}, ("u", "v"), "row 1: none of the targets"),
        ({"v": list("abcabc")}, ("u", "v"), "but 'v' has texts"),
        ({}, ("u",), "but target names one"),
    ],
)
def test_targets_that_may_not_be_lacking(changes, target, said):
    made = columns(**LACKING | changes, a=[1] * N)
    with pytest.raises(DataError, match=said):
        source(made, target=target, incomplete=True)
