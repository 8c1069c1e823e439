"""KU-HAR's archives as they are described: columns, rate, names of files, zeros."""

import io

import numpy as np
import pytest

from data_prep.sources import sources
from data_prep.sources._ku_har_files import off_the_clock, recordings, rows_of
from fedapm_mpi.errors import DataError
from tests.support.data import ku_har_archive as archive

SECOND = "2.Trimmed_interpolated_data"


def read(path, **options):
    return sources.get("ku-har")(path, **options)


def windows_of(source, folder, subject):
    label = archive.number_of(folder)
    client = source.id_names.index(subject)
    own = np.flatnonzero((source.ids == client) & (source.table.labels == label))
    return [column.fetch(own) for column in source.table.columns]


def expected(folder, subject, windows):
    """Return the standardised windows of values with five digits, from definitions."""
    found = []
    values = archive.values(folder, subject, 300)
    values = np.array([[float(f"{v:.5g}") for v in row] for row in values])
    for k in range(windows):
        part = values[128 * k : 128 * (k + 1)]
        found.append((part - part.mean(0)) / (part.std(0) + 1e-5))
    return np.array(found)[..., :3], np.array(found)[..., 3:]


def assert_windows(source, folder, subject, windows):
    found = windows_of(source, folder, subject)
    for x, y in zip(found, expected(folder, subject, windows), strict=True):
        assert x.shape == (windows, 128, 3)
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["folder", "zip", "zip in a folder", "forks"])
def test_the_second_archive(tmp_path, form):
    path = archive.second(tmp_path / SECOND)
    if form != "folder":
        inside = SECOND if form == "zip in a folder" else ""
        path = archive.zipped(path, inside=inside, resource_forks=form == "forks")
    source = read(path)
    assert source.id_names == archive.SUBJECTS
    assert len(source.table.labels) == 4 * 3 * 2
    assert sorted(set(source.table.labels.tolist())) == [0, 5, 12, 17]
    for folder in archive.FOLDERS:
        for subject in archive.SUBJECTS:
            assert_windows(source, folder, subject, 2)
    assert source.warnings == ()


@pytest.mark.parametrize(
    ("start", "unit"), [(0.0, 1), (0.0345, 1), (99.995, 1), (998.7, 1), (7.0, 1000)]
)
def test_times_with_five_digits_are_at_100_hz(tmp_path, start, unit):
    root = archive.second(tmp_path / SECOND)
    for subject in archive.SUBJECTS:
        rows = archive.trimmed("5.Lay", subject, start=start, unit=unit)
        archive.written(root / "5.Lay" / f"{subject}_F_1.csv", rows)
    assert read(root).warnings == ()


@pytest.mark.parametrize("as_zip", [False, True])
def test_raw_recordings_are_refused(tmp_path, as_zip):
    root = archive.first(tmp_path / "1.Raw_time_domian_data")
    path = archive.zipped(root, inside=root.name) if as_zip else root
    message = (
        r"0\.Stand/1001_A_1\.csv has in row \d+, column [15] the \w+'s time [\d.]+ s "
        r"after its first, not [\d.]+ s \(12 of 12 recordings are not at 100 Hz\); "
        r"give 2\.Trimmed_interpolated_data\.zip"
    )
    with pytest.raises(DataError, match=message):
        read(path)
    assert len(read(path, clean=False).table.labels) == 24


def test_a_few_recordings_at_another_rate_are_reported(tmp_path):
    root = archive.second(tmp_path / SECOND)
    rows = archive.raw("5.Lay", "1002", rate=50)
    archive.written(root / "5.Lay" / "1002_F_1.csv", rows)
    source = read(root)
    (warning,) = source.warnings
    assert "5.Lay/1002_F_1.csv has in row" in warning
    assert "(1 of 12 recordings are not at 100 Hz)" in warning
    assert_windows(source, "5.Lay", "1002", 2)


def test_the_row_that_leaves_the_clock():
    times = 3 + np.arange(500) / 100
    assert off_the_clock(times) is None
    times[200:] += 0.5
    assert off_the_clock(times) == (200, pytest.approx(2.5))
    assert off_the_clock(1000 * times) == (200, pytest.approx(2.5))
    assert off_the_clock(times[:1]) is None
    assert off_the_clock(np.zeros(2)) is None


def test_empty_cells_of_raw_recordings_are_named(tmp_path):
    root = archive.second(tmp_path / SECOND)
    rows = archive.raw("5.Lay", "1002")
    archive.written(root / "5.Lay" / "1002_F_1.csv", rows, empty_after=250)
    message = r"1002_F_1.csv does .* \(row 251, column 5 is empty\); .*skip_broken=true"
    with pytest.raises(DataError, match=message):
        read(root)


@pytest.mark.parametrize(
    ("shorter", "windows"),
    [({"gyro": 260}, 2), ({"acc": 255}, 1), ({"acc": 270, "gyro": 127}, 0)],
)
def test_zeros_after_the_shorter_sensor(tmp_path, shorter, windows):
    root = archive.second(tmp_path / SECOND)
    rows = archive.trimmed("5.Lay", "1002", shorter=shorter)
    archive.written(root / "5.Lay" / "1002_F_1.csv", rows)
    source = read(root)
    assert source.warnings == ()
    if windows:
        assert_windows(source, "5.Lay", "1002", windows)
    assert len(source.table.labels) == 22 + windows


def test_the_first_and_the_second_archive_in_one_folder(tmp_path):
    """Else each recording would be there twice, with two sets of times."""
    archive.first(tmp_path / "1.Raw_time_domian_data")
    second = archive.second(tmp_path / SECOND)
    message = (
        r"0\.Stand/1001_A_1\.csv twice, as .*1\.Raw.* and as .*2\.Trimmed.*; give the "
        r"folder or zip of 2\.Trimmed_interpolated_data alone"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    assert len(read(second).table.labels) == 24


def test_the_third_archive_names_no_subjects(tmp_path):
    root = archive.third(tmp_path / "3.Time_domain_subsamples")
    for path in (root, tmp_path, archive.zipped(root, inside=root.name)):
        with pytest.raises(DataError, match=r"subsamples name no subjects: get 2\.Tr"):
            read(path)
    # Next to the second it is left alone; it is no recording of activity 3.
    archive.second(tmp_path / SECOND)
    assert {r.activity for r in recordings(tmp_path)} == {0, 5, 12, 17}


def test_names_of_files(tmp_path):
    root = archive.second(tmp_path / SECOND)
    rows = archive.trimmed("5.Lay", "1075")
    archive.written(root / "5.Lay" / "1075_F_2_1.csv", rows)  # a trial in two parts
    rows = archive.trimmed("5.Lay", "1080")
    archive.written(root / "5.Lay" / "1080_A_1.csv", rows)
    source = read(root)
    assert source.id_names == ("1001", "1002", "1075", "1080", "1101")
    assert source.warnings == (
        "1 of 14 recordings have the letter of another activity in their name, the "
        "first is 5.Lay/1080_A_1.csv: the folder says what the activity is",
    )
    assert_windows(source, "5.Lay", "1075", 2)
    (root / "5.Lay" / "notes.csv").write_text("")
    with pytest.raises(DataError, match=r"5\.Lay/notes\.csv names no subject"):
        read(root)


def test_nothing_is_left_to_read(tmp_path):
    root = archive.second(tmp_path / SECOND)
    with pytest.raises(DataError, match="only those of subjects in leave_out"):
        read(root, leave_out=archive.SUBJECTS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4,5,6,7,8\n1,2,3,4,5,6,7\n", "has 7 columns in row 2, not 8"),
        ("1,2,3\n" * 2, "has 3 columns, not 8"),
        ("1,2,3,4,5,6,7,8\n1,2,x,4,5,6,7,8\n", r"\(row 2, column 3 is 'x'\)"),
        ("t,x,y,z,t,x,y,z\n1,2,3,4,5,6,7,8\n", r"\(row 1, column 1 is 't'\)"),
        ("1,2,3,4,5,6,7,8\n1,2,3,4,,6,7,8\n", r"\(row 2, column 5 is empty\)"),
        ("1,2,3,4,5,6,7,inf\n", r"lacks values \(row 1, column 8 is inf\)"),
        (" \n", "is empty"),
    ],
)
def test_faults_are_named_by_row_and_column(text, message):
    found = rows_of(io.BytesIO(text.encode()))
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(found)


def test_a_damaged_member_of_a_compressed_zip(tmp_path):
    path = archive.zipped(archive.second(tmp_path / SECOND))
    raw = bytearray(path.read_bytes())
    start = raw.index(b"5.Lay/1002_F_1.csv") + 60
    raw[start : start + 200] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"5\.Lay/1002_F_1\.csv can't be read \("):
        read(path)
    source = read(path, skip_broken=True)
    assert source.skipped == ("5.Lay/1002_F_1.csv",)
    assert len(source.table.labels) == 22
