"""Write a job script for SLURM, or submit it: one run, or all cells of a sweep.

    fedapm slurm submit mine.yaml --nodes 3 --ntasks-per-node 2 --time 1:00:00

The script is short and plain, and can be kept, changed and submitted by hand. What
differs from cluster to cluster is in a site profile.
"""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..console import say
from ..errors import ConfigError

if TYPE_CHECKING:
    from ..batch.scripts import Shape

HELP = "write a job script for SLURM, or submit a run or a sweep"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(metavar="WHAT", dest="verb", required=True)
    render = verbs.add_parser("render", help="print the job script")
    submit = verbs.add_parser("submit", help="submit the job")
    template = verbs.add_parser(
        "template", help="print the template of job scripts, to be copied and changed"
    )
    template.add_argument("template", choices=("train", "step"), nargs="?")
    for one in (render, submit):
        _add_job(one)
    submit.add_argument(
        "--prepare",
        metavar="ARGUMENTS",
        help="a job before it: what fedapm prepare gets, in one quoted word",
    )
    submit.add_argument(
        "--report",
        action="store_true",
        help="a job after it: fedapm report RUN; sweeps have their table in any case",
    )
    submit.add_argument(
        "--after", action="append", default=[], metavar="KIND:JOB",
        help="wait for another job, such as afterok:17",
    )  # fmt: skip


def _add_job(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", metavar="CONFIG")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument(
        "--sweep", type=Path, metavar="SWEEP", help="train the cells of a sweep.yaml"
    )
    parser.add_argument("--at-once", type=int, metavar="N", help="cells at a time")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument(
        "--ntasks-per-node", type=int, metavar="N", help="ranks on each node"
    )
    parser.add_argument(
        "--ntasks", type=int, metavar="N", help="ranks in all, however they spread"
    )
    parser.add_argument(
        "--time", default="1:00:00", help="limit of one start (default: 1:00:00)"
    )
    parser.add_argument(
        "--site",
        type=Path,
        metavar="FILE",
        help="site profile (default: that which FEDAPM_SITE names, or none)",
    )
    parser.add_argument("--job-name", metavar="NAME")
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="the run, new or to go on with (default: OUT/NAME-$SLURM_JOB_ID)",
    )
    parser.add_argument(
        "--out",
        default="runs",
        help="folder of runs and of what jobs print (default: runs)",
    )


def run(args: argparse.Namespace) -> int:
    """Render or submit; return the exit code."""
    from ..batch.scripts import template_text

    if args.verb == "template":
        print(template_text(args.template or "train"), end="")  # noqa: T201
        return 0
    if args.sweep is not None:
        if args.config is not None or args.run_dir is not None:
            msg = "--sweep names the configuration and the runs: leave out the others"
            raise ConfigError(msg)
        return _sweep(args)
    if args.at_once is not None:
        msg = "--at-once is for the cells of a --sweep"
        raise ConfigError(msg)
    return _train(args)


def _train(args: argparse.Namespace) -> int:
    from ..batch.scripts import Training, render_step, render_training
    from ..batch.submitting import submit
    from ..configfile import load
    from ..site import read_site

    if args.config is None:
        msg = "name a configuration, or a sweep by --sweep"
        raise ConfigError(msg)
    load(args.config, args.overrides)  # not hours later, once the job starts
    site, shape = read_site(args.site), _shape(args)
    name = args.job_name or Path(args.config).stem
    run_dir = args.run_dir or f"{args.out}/{name}-$SLURM_JOB_ID"
    training = Training(
        name=name, config=args.config, run_dir=run_dir, overrides=args.overrides
    )
    script = render_training(site, shape, training, args.out)
    if args.verb == "render":
        print(script, end="")  # noqa: T201
        return 0
    folder, after = Path(args.out), list(args.after)
    if args.prepare is not None:
        words = ["prepare", *shlex.split(args.prepare)]
        text = render_step(site, f"{name}-prepare", words, args.time, args.out)
        first = submit(text, folder / f"{name}-prepare.sbatch", after)
        say(f"job {first}: {shlex.join(words)}")
        after = [f"afterok:{first}"]
    job = submit(script, folder / f"{name}.sbatch", after)
    run_dir = run_dir.replace("$SLURM_JOB_ID", job)
    say(f"job {job}: train {args.config} on {shape.ranks} ranks, run {run_dir}")
    if args.report:
        words = ["report", run_dir]
        text = render_step(site, f"{name}-report", words, args.time, args.out)
        path = folder / f"{name}-report.sbatch"
        last = submit(text, path, [f"afterok:{job}"])
        say(f"job {last}: {shlex.join(words)}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from ..batch.scripts import Training, render_step, render_training
    from ..batch.submitting import submit
    from ..recorder import ranges
    from ..site import read_site
    from ..sweeps import read_sweep, write_cells

    if args.overrides or getattr(args, "prepare", None) or getattr(args, "report", 0):
        msg = "a sweep takes neither KEY=VALUE nor --prepare nor --report"
        raise ConfigError(msg)
    cells, out = read_sweep(args.sweep)
    todo = [k for k, cell in enumerate(cells) if not cell.finished]
    if not todo:
        say(f"all {len(cells)} cells are finished")
        return 0
    site, shape = read_site(args.site), _shape(args)
    name = args.job_name or args.sweep.stem
    limit = "" if args.at_once is None else f"%{args.at_once}"
    training = Training(
        name=name, config=str(out), run_dir=str(out), array=f"{ranges(todo)}{limit}"
    )
    script = render_training(site, shape, training, args.out)
    if args.verb == "render":
        print(script, end="")  # noqa: T201
        return 0
    write_cells(cells, out)
    job = submit(script, out / f"{name}.sbatch", args.after)
    say(f"job {job}: {len(todo)} of {len(cells)} cells, {shape.ranks} ranks each")
    words = ["sweep", "table", str(args.sweep)]
    text = render_step(site, f"{name}-table", words, "10", args.out)
    last = submit(text, out / f"{name}-table.sbatch", [f"afterany:{job}"])
    say(f"job {last}: {shlex.join(words)}, into {out / 'sweep.csv'}")
    return 0


def _shape(args: argparse.Namespace) -> "Shape":
    from ..batch.scripts import Shape
    from ..stopping import seconds_in

    seconds_in(args.time)
    for option in ("nodes", "ntasks_per_node", "ntasks", "at_once"):
        value = getattr(args, option)
        if value is not None and value < 1:
            msg = f"--{option.replace('_', '-')} must be at least 1, not {value}"
            raise ConfigError(msg)
    if args.ntasks is not None and args.ntasks_per_node is not None:
        msg = "give --ntasks or --ntasks-per-node, not both"
        raise ConfigError(msg)
    return Shape(
        nodes=args.nodes,
        tasks_per_node=args.ntasks_per_node,
        tasks=args.ntasks,
        time=args.time,
    )
