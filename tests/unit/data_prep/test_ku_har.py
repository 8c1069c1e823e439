"""KU-HAR's csv files, made here in their layout, become windows of two inputs."""

import os
import shutil
import zipfile

import numpy as np
import pytest

from data_prep.sources import sources
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.runner import train
from tests.support.preparation import prepare
from tests.support.processes.cli_runs import small_har

FOLDERS = ("0.Stand", "1.Sit", "5.Lay", "11.Walk", "17.Table-tennis")
SUBJECTS = ("1001", "1002", "1101")
ROWS = 700


def rows_of(folder, subject, number=ROWS):
    """Return a recording: time, three axes, time, three axes."""
    rng = np.random.default_rng([int(folder.split(".")[0]), int(subject)])
    rows = rng.normal(size=(number, 8)) * [0, 3, 1, 1, 0, 0.1, 0.2, 0.3] + 5
    rows[:, [0, 4]] = (np.arange(number) / 100)[:, None]
    return rows


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(file, rows, delimiter=",", fmt="%.5f")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "2.Trimmed_interpolated_data"
    for name in FOLDERS:
        for subject in SUBJECTS:
            write(root / name / f"{subject}_A_1.csv", rows_of(name, subject))
    (root / "0.Stand" / "readme.txt").write_text("no recording")
    return root


def zipped(folder):
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as made:
        for file in folder.rglob("*.csv"):
            made.write(file, file.relative_to(folder.parent))
    return archive


def read(path, **options):
    return sources.get("ku-har")(path, **options)


def scores(x):
    """Standardise each window and axis over time, one by one."""
    return np.array([
        [(axis - axis.mean()) / (axis.std() + 1e-5) for axis in window.T]
        for window in x
    ]).transpose(0, 2, 1)  # fmt: skip


@pytest.mark.parametrize("as_zip", [False, True])
def test_windows_labels_and_subjects(folder, as_zip):
    source = read(zipped(folder) if as_zip else folder.parent)
    assert source.id_names == SUBJECTS
    assert len(source.table.classes) == 18
    assert len(source.table.labels) == 5 * 3 * (ROWS // 128)
    assert len(source.files) == (1 if as_zip else 15)
    acc, gyro = source.table.columns
    assert acc.spec.shape == gyro.spec.shape == (128, 3)
    for name in FOLDERS:
        label = int(name.split(".")[0])
        for client, subject in enumerate(SUBJECTS):
            own = np.flatnonzero(
                (source.ids == client) & (source.table.labels == label)
            )
            rows = np.round(rows_of(name, subject), 5)[: 5 * 128].reshape(5, 128, 8)
            np.testing.assert_allclose(
                acc.fetch(own), scores(rows[..., 1:4]), atol=1e-4
            )
            np.testing.assert_allclose(
                gyro.fetch(own), scores(rows[..., 5:]), atol=1e-4
            )
            assert len(np.unique(source.groups[own])) == 1
    assert len(np.unique(source.groups)) == 15
    assert read(folder, group="none").groups is None


@pytest.mark.parametrize(
    ("number", "windows"), [(253, 0), (254, 0), (255, 1), (256, 1), (510, 1), (511, 2)]
)
def test_the_paper_s_windows(tmp_path, number, windows):
    """Every second row first, then windows of 128 of which 64 are used."""
    write(tmp_path / "0.Stand" / "1_A_1.csv", rows_of("0.Stand", "1", number))
    write(tmp_path / "1.Sit" / "1_A_1.csv", rows_of("1.Sit", "1", 256))
    source = read(tmp_path, classes=8, steps=64)
    own = np.flatnonzero(source.table.labels == 0)
    assert len(own) == windows
    rows = np.round(rows_of("0.Stand", "1", number), 5)
    for k, window in enumerate(source.table.columns[0].fetch(own)):
        raw = rows[256 * k : 256 * k + 128 : 2, 1:4]
        assert len(raw) == 64
        np.testing.assert_allclose(window, scores(raw[None])[0], atol=1e-4)


def test_eight_activities_in_the_paper_s_order(folder):
    source = read(folder, classes=8, leave_out=("1101",))
    assert source.id_names == ("1001", "1002")
    assert source.table.classes == (
        "Stand", "Sit", "Walk", "Lay", "Jump", "Run", "Stair-up", "Stair-down",
    )  # fmt: skip
    assert np.bincount(source.table.labels).tolist() == [10, 10, 10, 10]


def test_merged_clients_and_a_run(folder, tmp_path, capsys):
    words = ("classes=8", "steps=64", "leave_out=['1101']", "clients=1", "group=none")
    manifest = prepare("ku_har", folder, tmp_path / "to", *words)
    assert manifest.client_names == ("1001 + 1002",)
    capsys.readouterr()
    assert prepare("ku_har", folder, tmp_path / "to", *words).sha256 == manifest.sha256
    assert "nothing to do" in capsys.readouterr().out
    prepare("ku_har", folder, tmp_path / "all", "steps=64", "group=none")
    run = tmp_path / "run"
    config = validate(small_har(tmp_path / "all"), "test")
    assert train(Serial(), config, directory=run, progress="none") == 0


BROKEN = {
    "text": (lambda file: file.write_text("a,b\n"), "does not hold numbers everywhere"),
    "empty cells": (
        lambda file: file.write_text("0,1,2,3,,,,\n" * 300),
        "does not hold numbers everywhere",
    ),
    "nan": (
        lambda file: file.write_text("0,1,2,3,nan,nan,nan,nan\n" * 300),
        "lacks values",
    ),
    "columns": (
        lambda file: file.write_text("0,1,2,3\n" * 300),
        "has 4 columns, not 8",
    ),
    "binary": (lambda file: file.write_bytes(b"\xff\xfe\x00" * 99), "does not hold"),
}


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_recordings_are_reported_or_left_out(folder, tmp_path, kind, as_zip):
    change, message = BROKEN[kind]
    change(folder / "5.Lay" / "1002_A_1.csv")
    path = zipped(folder) if as_zip else folder
    with pytest.raises(DataError, match=rf"5.Lay/1002_A_1.csv {message}.*skip_broken"):
        read(path)
    manifest = prepare("ku-har", path, tmp_path / "to", "skip_broken=true")
    (skipped,) = manifest.preparation["skipped"]
    assert skipped.endswith("5.Lay/1002_A_1.csv")
    assert manifest.label_counts["train"][1, 5] == 0
    assert manifest.label_counts["train"][0, 5] > 0


SHORTER = {"accelerometer": (slice(4), 300), "gyroscope": (slice(4, 8), 500)}


@pytest.mark.parametrize("sensor", SHORTER)
def test_windows_end_where_the_shorter_sensor_does(folder, sensor):
    """The archive fills the end of the shorter sensor with zeros."""
    columns, end = SHORTER[sensor]
    rows = rows_of("5.Lay", "1002")
    rows[end:, columns] = 0
    rows[7, columns] = 0  # Zeros in the middle are no end.
    write(folder / "5.Lay" / "1002_A_1.csv", rows)

    def windows(source):
        return np.flatnonzero((source.ids == 1) & (source.table.labels == 5))

    source, taken_as_it_is = read(folder), read(folder, clean=False)
    own = windows(source)
    assert len(own) == end // 128
    assert len(windows(taken_as_it_is)) == ROWS // 128
    cut = np.round(rows, 5)[: end // 128 * 128].reshape(-1, 128, 8)
    for column, part in zip(
        source.table.columns, (cut[..., 1:4], cut[..., 5:]), strict=True
    ):
        np.testing.assert_allclose(column.fetch(own), scores(part), atol=1e-4)
    assert len(source.table.labels) == 14 * (ROWS // 128) + end // 128


@pytest.mark.parametrize("sensor", SHORTER)
def test_recordings_without_a_sensor(folder, sensor):
    rows = rows_of("5.Lay", "1002")
    rows[:, SHORTER[sensor][0]] = 0
    write(folder / "5.Lay" / "1002_A_1.csv", rows)
    with pytest.raises(DataError, match=rf"5.Lay/1002_A_1.csv has no {sensor};"):
        read(folder)
    assert read(folder, skip_broken=True).skipped == ("5.Lay/1002_A_1.csv",)
    assert not read(folder, clean=False).skipped


def test_copies_of_recordings(folder):
    """Of a subject's own, the first stays; of what two subjects have, nothing."""
    sit, lay = folder / "1.Sit", folder / "5.Lay"
    shutil.copy(sit / "1001_A_1.csv", sit / "1001_A_2.csv")
    shutil.copy(lay / "1002_A_1.csv", lay / "1101_B_1.csv")
    shutil.copy(lay / "1002_A_1.csv", lay / "1002_A_2.csv")
    message = r"Sit/1001_A_2.csv is the same as 1.Sit/1001_A_1.csv \(4 recordings are"
    with pytest.raises(DataError, match=message):
        read(folder)
    source = read(folder, skip_broken=True)
    assert source.skipped == (
        "1.Sit/1001_A_2.csv", "5.Lay/1002_A_1.csv", "5.Lay/1002_A_2.csv",
        "5.Lay/1101_B_1.csv",
    )  # fmt: skip
    x = source.table.columns[0].fetch(np.arange(len(source.table.labels)))
    assert len(np.unique(x, axis=0)) == len(x) == 14 * (ROWS // 128)
    assert len(read(folder, clean=False).table.labels) == 18 * (ROWS // 128)


def test_broken_recordings_are_no_copies_of_each_other(folder):
    for name in ("1002_A_1", "1101_A_1"):
        (folder / "5.Lay" / f"{name}.csv").write_text("a,b\n")
    with pytest.raises(DataError, match=r"1002_A_1.csv does not hold numbers.*\(2 rec"):
        read(folder)


def test_a_damaged_member_of_the_archive(folder):
    archive = zipped(folder)
    raw = bytearray(archive.read_bytes())
    start = raw.index(b"11.Walk/1001_A_1.csv") + 400
    digit = next(k for k in range(start, start + 20) if chr(raw[k]).isdigit())
    raw[digit] = ord("3") if raw[digit] != ord("3") else ord("7")
    archive.write_bytes(raw)
    with pytest.raises(DataError, match=r"1001_A_1.csv can't be read"):
        read(archive)
    source = read(archive, skip_broken=True)
    assert len(source.skipped) == 1


def test_what_is_no_ku_har(tmp_path):
    with pytest.raises(DataError, match="holds no recordings"):
        read(tmp_path)
    (tmp_path / "x.zip").write_text("no archive")
    with pytest.raises(DataError, match=r"get 2.Trimmed_interpolated_data.zip again"):
        read(tmp_path / "x.zip")
    write(tmp_path / "0.Stand" / "1_A_1.csv", rows_of("0.Stand", "1", 100))
    with pytest.raises(DataError, match="long enough"):
        read(tmp_path)


def test_a_recording_of_no_speaker(folder):
    (folder / "0.Stand" / "_A_1.csv").write_text("")
    with pytest.raises(DataError, match=r"0\.Stand/_A_1\.csv names no subject"):
        sources.get("ku-har")(folder)


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "0.Stand" / "1_B_1.csv")
    with pytest.raises(
        DataError, match=r"1_B_1\.csv can't be read \(it is not a regular"
    ):
        sources.get("ku-har")(folder)
