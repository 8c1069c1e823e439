"""``fedapm predict``: a file of predictions, the same as evaluation has."""

import csv

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from fedapm_mpi.cli.main import main
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from tests.support.preparation import prepare
from tests.unit.data_prep.test_table_like import with_classes
from tests.unit.data_prep.test_table_source import saved


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    path = saved(folder / "t", with_classes())
    prepare("table", path, folder / "d", "client=shop", "target=answer", "ids=[colour]",
            "missing=median", "drop=[part,score]")  # fmt: skip
    (folder / "c.yaml").write_text(
        f"data: {folder / 'd'}\nmodel: tabular\nalgorithm: fedapm\nrounds: 2\n"
        'split: {personal: ["head.*"]}\n'
    )
    words = ["train", str(folder / "c.yaml"), "--run-dir", str(folder / "run")]
    assert main(words) == 0
    return folder / "run"


def predicted(run, *words):
    return main(["predict", str(run), *map(str, words)])


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_table_have_the_bits_of_the_evaluation(run, tmp_path):
    data = read_manifest(run.parent / "d")
    rows = ShardReader(data).rows(4, "test")
    path = tmp_path / "new.csv"
    pa_csv.write_csv(with_classes().take(pa.array(rows)), path)
    name = data.client_names[4]
    to = tmp_path / "new-out.csv"
    words = (
        "--client",
        name,
        "--from",
        path,
        "--to",
        to,
        "--keep",
        "shop",
        "--keep",
        "answer",
    )
    assert predicted(run, *words) == 0
    own = tmp_path / "own.csv"
    assert predicted(run, "--client", name, "--part", "test", "--to", own) == 0
    ours, other = lines(to), lines(own)
    assert list(ours[0]) == ["row", "shop", "answer", "predicted", *data.classes]
    assert {line["shop"] for line in ours} == {name}
    for one, two in zip(ours, other, strict=True):
        assert {key: one[key] for key in two} == two


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "give either --from TABLE, or --part"),
        (("--part", "test", "--keep", "a"), 2, "--keep has no effect without --from"),
        (("--part", "test", "--to", "out.txt"), 2, "name a file that ends in .csv"),
        (("--part", "val"), 3, "the data set has no part 'val'"),
        (("--from", "nothing.csv"), 3, "nothing.csv does not exist"),
    ],
)
def test_what_is_refused(run, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    assert predicted(run, "--client", 0, "--to", "out.csv", *words) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_a_file_is_replaced_on_request_only(run, tmp_path, capsys):
    to = tmp_path / "out.csv"
    words = ("--client", 0, "--part", "test", "--to", to)
    assert predicted(run, *words) == 0
    assert predicted(run, *words) == 3
    assert "is there already; name another file, or --force" in capsys.readouterr().err
    assert predicted(run, *words, "--force") == 0
