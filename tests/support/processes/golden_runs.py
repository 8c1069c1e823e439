"""Train every case in a folder, one after the other, with the checkout on PYTHONPATH.

Usage: ``python golden_runs.py CASES RUNS CHECKOUT``, alone or under mpiexec. It starts
``python -m fedapm_mpi`` and imports nothing of the package, whose layout may be an
older one; one process for all cases, since loading libraries takes longer than they do.
A case that the checkout refuses leaves ``RUNS/CASE.refused``.
"""

import importlib.util
import runpy
import sys
from pathlib import Path

REFUSED = 2
"""Exit code for a configuration that a version does not understand."""


def main(cases: Path, runs: Path, checkout: Path) -> None:
    found = importlib.util.find_spec("fedapm_mpi")
    origin = None if found is None else found.origin
    if origin is None or checkout.resolve() not in Path(origin).resolve().parents:
        sys.exit(f"golden: fedapm_mpi is that of {origin}, not of {checkout}")
    for case in sorted(cases.glob("*.yaml")):
        run = runs / case.stem
        sys.argv = ["fedapm", "train", str(case), "--run-dir", str(run)]
        sys.argv += ["--progress", "none"]
        try:
            runpy.run_module("fedapm_mpi", run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                sys.stderr.write(f"golden: {case.stem}: exit code {ended.code}\n")
            if ended.code == REFUSED:
                (runs / f"{case.stem}.refused").touch()
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, where a part of the package might find a namesake
    main(*map(Path, sys.argv[1:4]))
