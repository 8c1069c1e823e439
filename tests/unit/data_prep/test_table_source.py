"""Tables from file to shards, against scikit-learn's encoders on the same rows."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as pa_feather
import pyarrow.parquet as pa_parquet
import pytest
from numpy.testing import assert_allclose
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from data_prep import table_columns, table_encoding
from data_prep.table_encoding import input_names
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from tests.support.preparation import everyone, prepare

N = 200
RNG = np.random.default_rng(0)
AGE = RNG.normal(50, 10, N)
AGE[::7] = np.nan
COLOUR = np.array(["red", "green", "blue", ""])[RNG.integers(4, size=N)]
SHOP = RNG.integers(1, 12, size=N)
PART = np.array(["train", "test"])[(np.arange(N) % 4 == 0).astype(int)]
SCORE = RNG.normal(size=N).round(6)
DAY = [dt.date(2020, 1, 1) + dt.timedelta(days=int(d)) for d in SHOP * 40]


def made(**more):
    columns = {
        "shop": pa.array(SHOP),
        "age": pa.array(AGE, from_pandas=True),
        "rooms": pa.array(RNG.integers(5, size=N)),
        "colour": pa.array([c or None for c in COLOUR]),
        "day": pa.array(DAY),
        "part": pa.array(PART),
        "score": pa.array(SCORE),
    }
    return pa.table(columns | more)


TABLE = made()


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=30)


SAVED = {
    "csv": pa_csv.write_csv,
    "tsv": lambda table, path: pa_csv.write_csv(
        table, path, pa_csv.WriteOptions(delimiter="\t")
    ),
    "parquet": pa_parquet.write_table,
    "feather": lambda table, path: pa_feather.write_feather(table, str(path)),
    "arrow": write_stream,
}
ROLES = ("client=shop", "target=score", "split_column=part")


def saved(folder, table=TABLE, kind="csv", name="made"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{kind}"
    SAVED[kind](table, path)
    return path


def inputs(manifest):
    """Return the inputs of all samples by (split, client), and the targets."""
    return {
        (split, client): (arrays.inputs["x"], arrays.target, arrays.labels)
        for split, clients in everyone(manifest).items()
        for client, arrays in enumerate(clients)
    }


def test_inputs_are_those_of_scikit_learn(tmp_path):
    manifest = prepare(
        "table", saved(tmp_path / "t"), tmp_path / "d", *ROLES, "missing=median",
        "drop=[day]",
    )  # fmt: skip
    training = PART == "train"
    rooms = TABLE["rooms"].to_numpy()[:, None].astype(float)
    numbers = []
    for values in (AGE[:, None], rooms):
        filled = SimpleImputer(strategy="median").fit(values[training])
        values = filled.transform(values)
        numbers.append(StandardScaler().fit(values[training]).transform(values))
    hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore")
    known = np.where(COLOUR == "", "~missing", COLOUR)[:, None]
    colours = hot.fit(known[training]).transform(known)
    age, number = numbers
    wanted = np.hstack([age, np.isnan(AGE)[:, None], number, colours])
    assert input_names(manifest.encoding) == [
        "age", "age missing", "rooms",
        "colour=blue", "colour=green", "colour=red", "colour missing",
    ]  # fmt: skip
    shops = sorted(set(SHOP.tolist()))
    assert manifest.client_names == tuple(map(str, shops))
    for (split, client), (x, target, _) in inputs(manifest).items():
        rows = (shops[client] == SHOP) & (split == PART)
        assert_allclose(x, wanted[rows], rtol=1e-5, atol=1e-6)
        assert (target[:, 0] == SCORE[rows]).all()


def test_a_client_for_each_combination(tmp_path):
    manifest = prepare(
        "table", saved(tmp_path / "t"), tmp_path / "d", "client=[shop,part]",
        "target=score", "missing=mean",
    )  # fmt: skip
    wanted = sorted(set(zip(SHOP.tolist(), PART.tolist(), strict=True)))
    assert manifest.client_names == tuple(f"{shop} / {part}" for shop, part in wanted)
    for (split, client), (_, target, _) in inputs(manifest).items():
        shop, part = wanted[client]
        assert set(target[:, 0]) <= set(SCORE[(shop == SHOP) & (part == PART)]), split
    assert manifest.preparation["source"]["client"] == ["shop", "part"]


def test_all_formats_are_the_same_data(tmp_path):
    found = {}
    for kind in SAVED:
        path = saved(tmp_path / kind, kind=kind)
        manifest = prepare(
            "table", path, tmp_path / f"d-{kind}", *ROLES, "missing=mean"
        )
        found[kind] = inputs(manifest), manifest.encoding
    halves = tmp_path / "halves"
    saved(halves, TABLE.slice(0, 70), name="a")
    saved(halves, TABLE.slice(70), name="b")
    manifest = prepare("table", halves, tmp_path / "two", *ROLES, "missing=mean")
    found["folder"] = inputs(manifest), manifest.encoding
    first, encoding = found.pop("csv")
    for kind, (arrays, other) in found.items():
        assert other == encoding, kind
        for key, (x, target, _) in arrays.items():
            assert np.array_equal(x, first[key][0])
            assert np.array_equal(target, first[key][1])


def test_what_is_fitted_is_of_training_rows_alone(tmp_path):
    changed = AGE.copy()
    changed[PART == "test"] = 1e6
    colours = [
        "new" if p == "test" else (c or None) for c, p in zip(COLOUR, PART, strict=True)
    ]
    table = TABLE.set_column(1, "age", pa.array(changed, from_pandas=True))
    table = table.set_column(3, "colour", pa.array(colours))
    options = (*ROLES, "missing=median")
    one = prepare("table", saved(tmp_path / "a"), tmp_path / "d", *options)
    other = prepare("table", saved(tmp_path / "b", table), tmp_path / "e", *options)
    assert one.encoding == other.encoding
    names = input_names(one.encoding)
    place, rooms = names.index("colour=blue"), names.index("rooms")
    before = inputs(one)
    for key, (x, _, _) in inputs(other).items():
        assert np.array_equal(x[:, rooms], before[key][0][:, rooms])
        if key[0] == "test":  # a category of no training row
            assert (x[:, place : place + 3] == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        ("client=shop", "split_column=part"),
        ("client=shop", "split=official", "drop=[part]"),
        ("partitioner=official-dirichlet", "clients=3", "drop=[part]"),
        ("client=shop", "shift=standardise", "drop=[part]"),
    ],
)
def test_spooled_columns_give_the_same_files(tmp_path, monkeypatch, options):
    path = saved(tmp_path / "t")
    common = ("target=score", "missing=median", *options)
    short = prepare("table", path, tmp_path / "d", *common)
    monkeypatch.setattr(table_columns, "SPOOL_BYTES", 100)
    monkeypatch.setattr(table_columns, "BLOCK_BYTES", 1024)
    long = prepare("table", path, tmp_path / "e", *common)
    assert long.files == short.files
    assert long.encoding == short.encoding


def test_dates_are_parts(tmp_path):
    manifest = prepare(
        "table", saved(tmp_path / "t"), tmp_path / "d", "client=shop", "target=score",
        "inputs=[day]", "scale=none", "split_column=part",
    )  # fmt: skip
    assert input_names(manifest.encoding) == [
        "day.year", "day.month", "day.day", "day.weekday",
    ]  # fmt: skip
    shops = sorted(set(SHOP.tolist()))
    for (split, client), (x, _, _) in inputs(manifest).items():
        days = [
            day
            for day, shop, part in zip(DAY, SHOP, PART, strict=True)
            if shop == shops[client] and part == split
        ]
        wanted = [[d.year, d.month, d.day, d.weekday()] for d in days]
        assert x.tolist() == wanted


def test_dates_are_scaled_block_by_block_as_at_once(tmp_path, monkeypatch):
    path = saved(tmp_path / "t")
    options = ("client=shop", "target=score", "inputs=[day]", "split_column=part")
    at_once = prepare("table", path, tmp_path / "d", *options)
    monkeypatch.setattr(table_encoding, "BLOCK_ROWS", 7)
    blocks = prepare("table", path, tmp_path / "e", *options)
    assert blocks.encoding == at_once.encoding
    days = [d for d, part in zip(DAY, PART, strict=True) if part == "train"]
    years = [d.year for d in days]
    (encoding,) = at_once.encoding
    assert encoding["parts"][0] == "year"
    assert_allclose(encoding["mean"][0], np.mean(years), rtol=1e-12)
    assert_allclose(encoding["std"][0], np.std(years), rtol=1e-9)


def test_hours_are_a_part_where_they_differ(tmp_path):
    times = [dt.datetime(2020, 2, 28, k % 24, 30) for k in range(N)]
    table = TABLE.append_column("time", pa.array(times, pa.timestamp("us")))
    manifest = prepare(
        "table", saved(tmp_path / "t", table, "parquet"), tmp_path / "d",
        "client=shop", "target=score", "inputs=[time]", "scale=none",
    )  # fmt: skip
    assert input_names(manifest.encoding) == ["time.hour"]
    hours = np.concatenate([x[:, 0] for x, _, _ in inputs(manifest).values()])
    assert_allclose(sorted(set(hours.tolist())), np.arange(24) + 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("column", "options", "kind", "classes"),
    [
        (["a", "b"] * (N // 2), (), None, 2),
        ([True, False] * (N // 2), (), None, 2),
        ([2, 5, 5, 9] * (N // 4), (), None, 3),
        (list(range(300, 300 + N)), (), "real", 10),
        (list(range(300, 300 + N)), ("kind=class",), None, N),
        ([2, 5, 5, 9] * (N // 4), ("kind=real",), "real", 3),
        ([0.5, 1.5] * (N // 2), (), "real", 2),
    ],
)
def test_the_kind_of_a_target_follows_from_its_values(
    tmp_path, column, options, kind, classes
):
    table = TABLE.append_column("goal", pa.array(column))
    manifest = prepare(
        "table", saved(tmp_path / "t", table), tmp_path / "d", "client=shop",
        "target=goal", "inputs=[rooms]", *options,
    )  # fmt: skip
    assert (manifest.target.kind if manifest.target else None) == kind
    assert len(manifest.classes) == classes


def test_several_targets(tmp_path):
    path = saved(tmp_path / "t", TABLE.append_column("more", TABLE["score"]))
    two = prepare(
        "table", path, tmp_path / "d", "client=shop", "target=[score,more]",
        "inputs=[rooms]",
    )  # fmt: skip
    assert (two.target.kind, two.target.names) == ("real", ("score", "more"))
    flags = TABLE.append_column("f", pa.array([0, 1] * (N // 2)))
    flags = flags.append_column("g", pa.array([1, 1] * (N // 2)))
    path = saved(tmp_path / "u", flags)
    labels = prepare(
        "table", path, tmp_path / "e", "client=shop", "target=[f,g]", "inputs=[rooms]"
    )
    assert (labels.target.kind, labels.target.mean[1]) == ("binary", 1.0)


def test_clients_are_named_without_the_point_that_pandas_adds(tmp_path):
    table = TABLE.set_column(0, "shop", pa.array([f"{shop}.0" for shop in SHOP]))
    manifest = prepare(
        "table", saved(tmp_path / "t", table), tmp_path / "d", *ROLES, "inputs=[rooms]"
    )
    assert set(manifest.client_names) == set(map(str, SHOP.tolist()))


def test_rows_of_a_group_stay_together(tmp_path):
    group = np.arange(N) // 5
    table = TABLE.append_column("person", pa.array(group))
    manifest = prepare(
        "table", saved(tmp_path / "t", table), tmp_path / "d", "client=shop",
        "target=score", "inputs=[rooms]", "group=person", "test=0.3",
    )  # fmt: skip
    side = {}
    rows = {float(score): k for k, score in enumerate(SCORE)}
    for (split, _), (_, target, _) in inputs(manifest).items():
        for score in target[:, 0].tolist():
            k = rows[score]
            assert side.setdefault((SHOP[k], group[k]), split) == split


FAULTS = {
    "no target": (("target=goal", "client=shop"), "no column 'goal' .target."),
    "near": (("target=scor", "client=shop"), "did you mean 'score'"),
    "twice": (("target=score", "client=shop", "drop=[score]"), "target and drop"),
    "drop with inputs": (
        ("target=score", "client=shop", "inputs=[rooms]", "drop=[age]"),
        "drop has no effect with inputs",
    ),
    "nothing left": (
        ("target=score", "client=shop", "drop=[age,rooms,colour,day,part]"),
        "no column is left",
    ),
    "missing": (ROLES, r"made.csv, line 2: column 'age' .* set missing=median or mean"),
    "missing client": (("target=score", "client=colour"), "names no client there"),
    "missing part of a client": (
        ("target=score", "client=[shop,colour]"),
        r"made.csv, line \d+: column 'colour' names no client there, nor in \d+ other",
    ),
    "client twice": (("target=score", "client=[shop,shop]"), "named by client and cl"),
    "client and group": (
        ("target=score", "client=[shop,part]", "group=part"),
        "client and group; give it one role",
    ),
    "missing target": (("target=age", "client=shop"), "the target 'age' has no value"),
    "text as a number": (
        ("target=part", "client=shop", "kind=real"),
        "has texts, but the target is real",
    ),
    "two classes": (
        ("target=[part,rooms]", "client=shop"),
        "a class is one column",
    ),
    "odd split": (
        ("target=score", "client=shop", "split_column=rooms", "missing=mean"),
        "column 'rooms' of sample .* is '?[34]'?; it must be",
    ),
    "no client": (("target=score", "missing=mean"), "client=COLUMN names them"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_is_named(tmp_path, name):
    options, message = FAULTS[name]
    with pytest.raises(FedAPMError, match=message):
        prepare("table", saved(tmp_path / "t"), tmp_path / "d", *options)
    assert not (tmp_path / "d").exists()


def test_a_column_of_names_is_no_input(tmp_path):
    names = TABLE.append_column("name", pa.array([f"p{k}" for k in range(1500)][:N]))
    many = pa.concat_tables([names] * 8)
    column = pa.array([f"p{k}" for k in range(8 * N)])
    many = many.set_column(many.schema.get_field_index("name"), "name", column)
    path = saved(tmp_path / "t", many)
    with pytest.raises(DataError, match=r"beyond 1000; drop it with drop=\[name\]"):
        prepare("table", path, tmp_path / "d", *ROLES, "missing=mean")


def test_a_column_that_counts_rows_is_asked_about(tmp_path, capsys):
    table = TABLE.append_column("number", pa.array(np.arange(N)))
    prepare(
        "table", saved(tmp_path / "t", table), tmp_path / "d", *ROLES, "missing=mean"
    )
    shown = capsys.readouterr()
    assert "leave it out with drop=[number]" in shown.out + shown.err


def test_it_says_what_columns_became(tmp_path, capsys):
    prepare("table", saved(tmp_path / "t"), tmp_path / "d", *ROLES, "missing=mean")
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert "target score (real)" in text
    assert "numbers age, rooms; categories colour; dates day; with missing" in text


def test_the_encoding_is_read_back(tmp_path):
    manifest = prepare(
        "table", saved(tmp_path / "t"), tmp_path / "d", "client=shop", "target=part",
        "missing=mean",
    )  # fmt: skip
    assert manifest.target is None
    assert manifest.schema_version == 2
    kinds = [one["kind"] for one in read_manifest(tmp_path / "d").encoding]
    assert kinds == ["number", "number", "category", "date", "number"]


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    path = saved(tmp_path / "t")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.csv", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedapm-mpi\[table\]'"):
        prepare("table", path, tmp_path / "d", *ROLES)
