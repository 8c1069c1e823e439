"""What the golden check of two checkouts compares, and what it reports."""

import json
import shutil

import pytest

from tests.support import golden

RECORD = {"round": 1, "loss": 0.5, "rho": None, "bytes": {"sum": 8}}
TIMES = {"seconds": {"train": 0.1}, "wall_seconds": 1.0, "check": "00000000"}


def write_run(folder, *, digest="abc", records=(RECORD,), accuracy="0.5"):
    (folder / "final").mkdir(parents=True)
    (folder / "final" / "digest.txt").write_text(f"{digest}\n")
    lines = [json.dumps({**record, **TIMES}) + "\n" for record in records]
    (folder / "rounds.jsonl").write_text("".join(lines))
    (folder / "clients.csv").write_text(f"client,accuracy\n0,{accuracy}\n")


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    for name in ("plain", "other"):
        write_run(folder / name)
    return folder


@pytest.fixture
def changed(base, tmp_path):
    return shutil.copytree(base, tmp_path / "changed")


def differences(base, changed):
    return golden.differences(base, changed, ["plain", "other"])


def test_equal_runs(base, changed):
    assert differences(base, changed) == []


def test_times_and_bytes_are_left_out(base, changed):
    record = {**RECORD, "bytes": {"sum": 9}}
    shutil.rmtree(changed / "plain")
    write_run(changed / "plain", records=[record])
    path = changed / "plain" / "rounds.jsonl"
    path.write_text(path.read_text().replace("0.1", "0.2").replace("00000000", "1"))
    assert differences(base, changed) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"digest": "abd"}, "digest is 'abd', was 'abc'"),
        (
            {"records": [{**RECORD, "loss": 0.25}]},
            "record[0].loss is 0.25, was 0.5",
        ),
        (
            {"records": [{**RECORD, "rho": 0.0}]},
            "record[0].rho is 0.0, was None",
        ),
        ({"accuracy": "0.25"}, "clients.csv[0].accuracy is '0.25', was '0.5'"),
    ],
)
def test_one_difference_is_named(base, changed, change, found):
    shutil.rmtree(changed / "plain")
    write_run(changed / "plain", **change)
    assert differences(base, changed) == [f"plain: {found}"]


def test_every_difference_is_named(base, changed):
    shutil.rmtree(changed / "other")
    less = {key: value for key, value in RECORD.items() if key != "loss"}
    records = [{**less, "f1": -0.0}, {"round": 2}]
    write_run(changed / "other", digest="abd", records=records)
    assert differences(base, changed) == [
        "other: digest is 'abd', was 'abc'",
        "other: record[0].loss is absent, was 0.5",
        "other: record.length is 2, was 1",
        "other: record[0].f1 is -0.0, was absent",
        "other: record[1].round is 2, was absent",
    ]


def test_the_sign_of_zero_counts(base, changed):
    for folder, zero in ((base, 0.0), (changed, -0.0)):
        shutil.rmtree(folder / "plain")
        write_run(folder / "plain", records=[{**RECORD, "loss": zero}])
    assert differences(base, changed) == ["plain: record[0].loss is -0.0, was 0.0"]


@pytest.mark.parametrize("where", [["base"], ["changed"], ["base", "changed"]])
def test_a_run_that_is_missing_differs(base, changed, where):
    for name in where:
        shutil.rmtree(base.with_name(name) / "plain" / "final")
    folders = " and ".join(str(base.with_name(name) / "plain") for name in where)
    assert differences(base, changed) == [f"plain: no finished run in {folders}"]


def test_a_case_that_the_base_refuses_is_left_out(base, changed):
    """But not one that it failed to train, nor one that both refuse."""
    names = ["plain", "other"]
    assert golden.newer(base, changed, names) == []
    shutil.rmtree(base / "plain")
    assert golden.newer(base, changed, names) == []
    (base / "plain.refused").touch()
    assert golden.newer(base, changed, names) == ["plain"]
    shutil.rmtree(changed / "plain")
    (changed / "plain.refused").touch()
    assert golden.newer(base, changed, names) == []


def test_a_folder_that_is_no_checkout(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        golden.main([str(tmp_path)])
    assert ended.value.code == 2
    assert "is not a checkout: it has no fedapm_mpi" in capsys.readouterr().err


def test_each_checkout_trains_by_its_own_package(tmp_path, capsys):
    """Against a copy that draws participants otherwise: a case with all keeps."""
    other = tmp_path / "other"
    shutil.copytree(golden.ROOT / "fedapm_mpi", other / "fedapm_mpi")
    path = other / "fedapm_mpi" / "participation" / "random.py"
    text = path.read_text()
    assert text.count("rng.choice(") == 1
    path.write_text(text.replace("rng.choice(", "rng.random() and rng.choice("))
    schema = other / "fedapm_mpi" / "config" / "schema.py"
    text = schema.read_text()
    assert text.count('"mean"] = "local"') == 1
    schema.write_text(text.replace(', "mean"] = "local"', '] = "local"'))
    cases = ["plain", "full-batch", "buffers-mean"]
    assert golden.main([str(other), "--only", *cases]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("plain: digest is '") for line in printed)
    assert any(line.startswith("plain: record[1].") for line in printed)
    assert not any(line.startswith("full-batch: ") for line in printed)
    assert printed[-2] == "left out, as the base refuses them: buffers-mean"
    assert printed[-1] == "2 cases, 1 differ"
