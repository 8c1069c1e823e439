"""Report on a study: tables on the terminal, a CSV file and figures."""

from pathlib import Path

from fedapm_mpi.errors import DataError, FedAPMError
from fedapm_mpi.studies.scaling import tables
from fedapm_mpi.studies.scaling.measurements import Measurements, read_points
from fedapm_mpi.studies.scaling.plots import draw_phases, draw_speed_up
from fedapm_mpi.studies.scaling.points import open_study
from fedapm_mpi.studies.scaling.summary import differing, rows_of
from fedapm_mpi.utils.atomic_io import write_error
from fedapm_mpi.utils.log import get_logger
from fedapm_mpi.utils.terminal import echo, print_table

log = get_logger(__name__)


def report(root: Path) -> int:
    """Print tables and write figures; return the exit code.

    Returns
    -------
    int
        0, or 70 if digests differ that must be equal.

    Raises
    ------
    FedAPMError
        If the study cannot be read or nothing of it is finished, or if SciPy or
        matplotlib is not installed.
    """
    study, points = open_study(root)
    measured, missing = read_points(points, study.warmup_rounds)
    if missing:
        echo(tables.unfinished(missing))
    rows = rows_of(measured)
    if not rows:
        msg = f"{root}: no point is finished yet; continue with: fedapm scale run"
        raise DataError(msg)
    for kind, description in tables.KINDS.items():
        found = [row for row in rows if row.kind == kind]
        if found:
            print_table(f"{kind}: {description}", *tables.speedup_table(found))
            print_table("Milliseconds per round, medians", *tables.phases_table(found))
    for text in tables.notes(rows, measured):
        log.info("%s", text)
    folder = make_folder(root / "report")
    files = [folder / "scaling.csv"]
    tables.write_csv(files[0], tables.COLUMNS, [tables.cells(row) for row in rows])
    if any(row.scaled for row in rows):
        files += draw_speed_up(rows, folder / "speed-up")
    files += draw_phases(rows, folder / "phases")
    echo(f"in {folder}: {', '.join(path.name for path in files)}")
    return _check_digests(measured)


def make_folder(folder: Path) -> Path:
    """Make a folder, if it does not exist, and return it.

    Raises
    ------
    WriteError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def _check_digests(measured: list[Measurements]) -> int:
    faults = differing(measured)
    for text in faults:
        echo(f"error: {text}")
    if faults:
        echo(
            "results must not depend on ranks or repetitions; find the cause before use"
        )
        return FedAPMError.exit_code
    digests = {one.digest for one in measured if one.point.kind == "strong"}
    where = "over all rank counts and repetitions" if digests else "over repetitions"
    if len(measured) > 1:
        echo(f"digests agree {where}: all runs trained the same model, bit for bit")
    return 0
