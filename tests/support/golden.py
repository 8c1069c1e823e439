"""Show that a change keeps every result: train small cases with two checkouts.

Usage: ``python -m tests.support.golden BASE_CHECKOUT [--ranks N] [--mpi openmpi]``, at
the root of the checkout with the change. BASE_CHECKOUT is one without it, say made by
``git worktree add ../base main``. Each checkout trains every case in one job, on this
machine, from the same data; then digests, the records of rounds and the clients'
figures are compared, without times, bytes and check values. Exit code 1: some differ,
and each is named. A case with an option that the base refuses, since it is newer than
the base, is left out and named. Bits depend on the processor and on torch, so nothing
is kept.
"""

import argparse
import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.support import PLUGINS, PROCESSES, ROOT
from tests.support.data import toy_data
from tests.support.experiments import experiments
from tests.support.old_names import old_names
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import experiment, small_har, write_config

NOT_COMPARED = ("seconds", "wall_seconds", "bytes", "check")
"""Keys of a record that differ from one run to the next."""

TIMEOUT = 900.0
"""Seconds for all cases of one checkout, which take about ten."""

ABSENT = "absent"

UNITS_SINCE = Path("fedapm_mpi", "config", "former_defaults.py")
"""File that a checkout has whose ADMM methods know the option ``units``."""


def cases(data: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the configurations of all cases, by name.

    Parameters
    ----------
    data
        The prepared data sets of `toy_data.write_all`.
    """
    features = data["features"]
    return experiments(data) | {
        # Sums of float32 depend on who adds what: clients stay on their rank.
        "float32-sum": experiment(features, aggregator="float32", scheduling="static"),
        "small-har": small_har(data["motion"]),
    }


def train(
    checkout: Path, cases: Path, runs: Path, ranks: int | None, python: str
) -> mpiexec.Ended:
    """Train all cases with a checkout.

    Parameters
    ----------
    checkout
        The root of a checkout, whose package is used, wherever its modules lie.
    cases
        Folder of configurations, ``NAME.yaml``.
    runs
        Where run directories are put, ``NAME``.
    ranks
        How many; None starts one process without a launcher.
    python
        The interpreter, which chooses the MPI.
    """
    runs.mkdir(parents=True)
    argv = [PROCESSES / "golden_runs.py", cases, runs, checkout]
    path = os.pathsep.join(map(str, (checkout, PLUGINS)))
    return mpiexec.run(
        ranks,
        [str(word) for word in argv],
        timeout=TIMEOUT,
        env={"PYTHONPATH": path, "XDG_STATE_HOME": str(runs.parent / "state")},
        cwd=runs,
        python=python,
    )


def differences(base: Path, changed: Path, names: Iterable[str]) -> list[str]:
    """Return what differs between the runs in two folders, a sentence each.

    Parameters
    ----------
    base, changed
        Folders of run directories.
    names
        Of the runs to compare. One that is missing on both sides differs too.
    """
    found: list[str] = []
    for name in names:
        sides = base / name, changed / name
        missing = [str(run) for run in sides if not (run / "final").is_dir()]
        if missing:
            found.append(f"{name}: no finished run in {' and '.join(missing)}")
            continue
        for what, read in READERS.items():
            one, other = (_flat(read(run)) for run in sides)
            found += [
                f"{name}: {what}{key} is {other.get(key, ABSENT)}, "
                f"was {one.get(key, ABSENT)}"
                for key in {**one, **other}
                if one.get(key, ABSENT) != other.get(key, ABSENT)
            ]
    return found


def newer(base: Path, changed: Path, names: Iterable[str]) -> list[str]:
    """Return the cases that the base refused and the changed checkout finished."""
    return [
        name
        for name in names
        if (base / f"{name}.refused").exists() and (changed / name / "final").is_dir()
    ]


def _digest(run: Path) -> Any:
    return (run / "final" / "digest.txt").read_text().strip()


def _records(run: Path) -> Any:
    lines = (run / "rounds.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in record.items() if key not in NOT_COMPARED}
        for record in map(json.loads, lines)
    ]


def _clients(run: Path) -> Any:
    with (run / "clients.csv").open(newline="") as file:
        return list(csv.DictReader(file))


READERS: dict[str, Callable[[Path], Any]] = {
    "digest": _digest,
    "record": _records,
    "clients.csv": _clients,
}


def _flat(value: Any, at: str = "") -> dict[str, str]:
    """Return the leaves of a tree, by their path: `repr` tells 0.0 from -0.0."""
    if isinstance(value, dict):
        inner = [(f"{at}.{key}", one) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(f"{at}[{k}]", one) for k, one in enumerate(value)]
        inner.append((f"{at}.length", len(value)))
    else:
        return {at: repr(value)}
    return {key: leaf for name, one in inner for key, leaf in _flat(one, name).items()}


def main(words: list[str] | None = None) -> int:
    """Run the comparison; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.golden")
    parser.add_argument("base", type=Path, help="root of a checkout without the change")
    parser.add_argument("--ranks", type=int, help="default: one process, no launcher")
    parser.add_argument("--mpi", choices=["mpich", "openmpi"], default="mpich")
    parser.add_argument("--python", help="interpreter with that MPI")
    parser.add_argument("--only", nargs="+", metavar="CASE", help="default: all cases")
    parser.add_argument("--keep", type=Path, help="a new folder for cases and runs")
    options = parser.parse_args(words)
    if not (options.base / "fedapm_mpi").is_dir():
        parser.error(f"{options.base} is not a checkout: it has no fedapm_mpi")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="fedapm-golden-"))
    try:
        return _compare(folder.absolute(), options)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


def _compare(folder: Path, options: argparse.Namespace) -> int:
    data = toy_data.write_all(folder / "data")
    wanted = cases(data)
    for name in options.only or ():
        if name not in wanted:
            sys.exit(f"golden: no case is called {name}; known: {', '.join(wanted)}")
    knows_units = (options.base / UNITS_SINCE).is_file()
    names = options.only or list(wanted)
    (folder / "cases-base").mkdir()
    (folder / "cases-changed").mkdir()
    for name in names:
        # The base may be of a version that knows old names of keys only.
        old = old_names(wanted[name], keep_later_options=knows_units)
        write_config(folder / "cases-base" / f"{name}.yaml", old)
        write_config(folder / "cases-changed" / f"{name}.yaml", wanted[name])
    python = options.python or _python(options.mpi)
    for side, checkout in (("base", options.base.resolve()), ("changed", ROOT)):
        written = folder / f"cases-{side}"
        ended = train(checkout, written, folder / side, options.ranks, python)
        _say(f"{checkout}: {ended.seconds:.1f} s, exit code {ended.returncode}")
        if ended.returncode or ended.stderr:
            _say(ended.stderr)
    sides = folder / "base", folder / "changed"
    left_out = newer(*sides, names)
    names = [name for name in names if name not in left_out]
    unequal = differences(*sides, names)
    for line in unequal:
        _say(line)
    if left_out:
        _say(f"left out, as the base refuses them: {', '.join(left_out)}")
    bad = {line.partition(":")[0] for line in unequal}
    _say(f"{len(names)} cases, {len(bad)} differ")
    return 1 if unequal else 0


def _python(mpi: str) -> str:
    """Return the interpreter with an MPI, for Open MPI that of ``launch/test``."""
    if mpi == "mpich":
        return sys.executable
    found = os.environ.get("FEDAPM_OPENMPI_PYTHON")
    local = ROOT / ".venv-openmpi" / "bin" / "python"
    if found is None and not local.exists():
        sys.exit("golden: no Open MPI; run ./launch/test openmpi, or give --python")
    return found or str(local)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
