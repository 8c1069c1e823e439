"""Report on a study: what it says, and the files that it leaves."""

from pathlib import Path

from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.studies.scaling import tables as telling
from fedapm_mpi.studies.scaling.measurements import Measurements, read_points
from fedapm_mpi.studies.scaling.plots import draw_phases, draw_speed_up
from fedapm_mpi.studies.scaling.points import open_study
from fedapm_mpi.studies.scaling.summary import differing, rows_of
from fedapm_mpi.tracking.progress import echo, print_table
from fedapm_mpi.utils.atomic_io import write_error


def report(root: Path) -> int:
    """Print tables and write figures; return 70 if digests differ that must not."""
    study, points = open_study(root)
    measured, missing = read_points(points, study.warmup_rounds)
    if missing:
        echo(telling.unfinished(missing))
    rows = rows_of(measured)
    if not rows:
        msg = f"{root}: no point is finished yet; go on with: fedapm scale run"
        raise DataError(msg)
    for kind, way in telling.WAYS.items():
        found = [row for row in rows if row.kind == kind]
        if found:
            print_table(f"{kind}: {way}", *telling.figures_table(found))
            print_table("ms a round, medians", *telling.phases_table(found))
    for text in telling.sentences(rows, measured):
        echo(f"note: {text}")
    folder = made(root / "report")
    files = [folder / "scaling.csv"]
    telling.write_csv(files[0], telling.COLUMNS, [telling.cells(row) for row in rows])
    if any(row.scaled for row in rows):
        files += draw_speed_up(rows, folder / "speed-up")
    files += draw_phases(rows, folder / "phases")
    echo(f"in {folder}: {', '.join(path.name for path in files)}")
    return _judge(measured)


def made(folder: Path) -> Path:
    """Make a folder, if it is not there, and return it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _judge(measured: list[Measurements]) -> int:
    told = differing(measured)
    for text in told:
        echo(f"error: {text}")
    if told:
        echo("results must not depend on ranks or repetitions: find out why before use")
        return FedAPMError.exit_code
    digests = {one.digest for one in measured if one.point.kind == "strong"}
    where = "over all rank counts and repetitions" if digests else "over repetitions"
    if len(measured) > 1:
        echo(f"digests agree {where}: every run trained the same, bit for bit")
    return 0
