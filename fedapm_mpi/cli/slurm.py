"""Write a job script for SLURM, or submit it: one run, a sweep, a scaling study.

    fedapm slurm submit mine.yaml --nodes 3 --ntasks-per-node 2 --time 1:00:00

The script is short, and can be kept, edited and submitted by hand. Cluster-specific
settings are in a site profile.
"""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedapm_mpi.cli.arguments import Parser, add_experiment, split_words
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

if TYPE_CHECKING:
    from fedapm_mpi.cluster.slurm.scripts import JobResources

HELP = "write a job script for SLURM, or submit a run, a sweep or a scaling study"


class SlurmCommand(LocalCommand):
    """Write or submit job scripts."""

    prints_result = False

    def must_print(self, words: Sequence[str]) -> bool:
        """Return whether the script is printed, and nothing else is done."""
        return list(words[:1]) == ["render"]

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        verbs = parser.add_subparsers(metavar="ACTION", dest="verb", required=True)
        render = verbs.add_parser("render", help="print the job script")
        submit = verbs.add_parser("submit", help="submit the job")
        template = verbs.add_parser(
            "template",
            help="print the template of job scripts, to copy and edit",
        )
        template.add_argument("template", choices=("train", "step"), nargs="?")
        for one in (render, submit):
            _add_job(one)
        submit.add_argument(
            "--prepare",
            metavar="ARGUMENTS",
            help="a job before it: the arguments of fedapm prepare, in one quoted word",
        )
        submit.add_argument(
            "--report",
            action="store_true",
            help="a job after it: fedapm report RUN (a sweep always writes its table)",
        )
        submit.add_argument(
            "--after", action="append", default=[], metavar="KIND:JOB",
            help="wait for another job, such as afterok:17",
        )  # fmt: skip

    def execute(self, args: argparse.Namespace) -> int:
        """Render or submit; return the exit code."""
        from fedapm_mpi.cluster.slurm.scripts import template_text

        if args.verb == "template":
            print(template_text(args.template or "train"), end="")  # noqa: T201
            return 0
        args.config, args.overrides = split_words([args.config, *args.overrides])
        _check_kind(args)
        if args.sweep is not None:
            return _sweep(args)
        return _train(args) if args.study is None else _study(args)


COMMAND = SlurmCommand()


def _add_job(parser: Parser) -> None:
    add_experiment(parser)
    parser.add_argument(
        "--sweep", type=Path, metavar="SWEEP", help="train the cells of a sweep.yaml"
    )
    parser.add_argument(
        "--study",
        type=Path,
        metavar="STUDY",
        help="run the points of a scaling study, one job each, one after the other; "
        "the number of nodes is a point's ranks over --ntasks-per-node",
    )
    add_resources(parser)
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="run directory, new or to resume (default: OUT/NAME-$SLURM_JOB_ID)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of runs and of the jobs' output (default: runs); with --study, "
        "the study's folder (default: runs/ and the name of its file)",
    )


def add_resources(parser: Parser) -> None:
    """Declare what a job is given, and the cluster."""
    parser.add_argument(
        "--max-concurrent",
        type=int,
        metavar="N",
        help="cells, or trials, at the same time",
    )
    parser.old_flags["--at-once"] = "--max-concurrent"
    parser.add_argument(
        "--nodes", type=int, metavar="N", help="nodes of a job (default: 1)"
    )
    parser.add_argument(
        "--ntasks-per-node",
        type=int,
        metavar="N",
        help="ranks on each node; with --ntasks, at most",
    )
    parser.add_argument(
        "--ntasks",
        type=int,
        metavar="N",
        help="ranks in all, where nodes have unequal numbers",
    )
    parser.add_argument(
        "--time", default="1:00:00", help="time limit of a job (default: 1:00:00)"
    )
    parser.add_argument(
        "--site",
        type=Path,
        metavar="FILE",
        help="site profile (default: the one that FEDAPM_SITE names, if any)",
    )
    parser.add_argument(
        "--job-name", metavar="NAME", help="name of the job (default: that of the file)"
    )


def _check_kind(args: argparse.Namespace) -> None:
    """Refuse what does not go with a sweep or a study, which say it themselves."""
    if args.max_concurrent is not None and args.sweep is None:
        msg = "--max-concurrent is for the cells of a --sweep"
        raise ConfigError(msg)
    option = "--sweep" if args.sweep is not None else "--study"
    if args.sweep is None and args.study is None:
        return
    given = {
        "CONFIG": args.config,
        "--run-dir": args.run_dir,
        "--prepare": getattr(args, "prepare", None),
        "--report": getattr(args, "report", None),
    }
    if args.study is not None:
        given |= {"--sweep": args.sweep, "--nodes": args.nodes, "--ntasks": args.ntasks}
    wrong = [name for name, value in given.items() if value]
    if wrong:
        msg = f"{option} and {wrong[0]} do not go together: the file says what to run"
        raise ConfigError(msg)


def _train(args: argparse.Namespace) -> int:
    from fedapm_mpi.cluster.site import read_site
    from fedapm_mpi.cluster.slurm.scripts import TrainJob, render_step, render_training
    from fedapm_mpi.cluster.slurm.submit import check_site, submit_script
    from fedapm_mpi.config.loader import load, print_note
    from fedapm_mpi.utils.terminal import echo

    if args.config is None:
        msg = "name a configuration, or a sweep by --sweep"
        raise ConfigError(msg)
    load(
        args.config, args.overrides, print_note
    )  # not hours later, once the job starts
    out: str = args.out or "runs"
    site, shape = read_site(args.site), shape_of(args)
    name = job_name(args, Path(args.config).stem)
    run_dir = args.run_dir or f"{out}/{name}-$SLURM_JOB_ID"
    training = TrainJob(
        name=name, config=args.config, run_dir=run_dir, overrides=args.overrides
    )
    script = render_training(site, shape, training, out)
    if args.verb == "render":
        print(script, end="")  # noqa: T201
        return 0
    check_site(site)
    folder, after = Path(out), list(args.after)
    if args.prepare is not None:
        words = ["prepare", *shlex.split(args.prepare)]
        text = render_step(
            site, f"{name}-prepare", words, args.time, out, variables=True
        )
        first = submit_script(text, folder / f"{name}-prepare.sbatch", out, after)
        echo(f"job {first}: {shlex.join(words)}")
        after = [f"afterok:{first}"]
    job = submit_script(script, folder / f"{name}.sbatch", out, after)
    run_dir = run_dir.replace("$SLURM_JOB_ID", job)
    echo(f"job {job}: train {args.config} on {shape.ranks} ranks, run {run_dir}")
    if args.report:
        words = ["report", run_dir]
        text = render_step(
            site, f"{name}-report", words, args.time, out, variables=True
        )
        path = folder / f"{name}-report.sbatch"
        last = submit_script(text, path, out, [f"afterok:{job}"])
        echo(f"job {last}: {shlex.join(words)}")
    return 0


def _sweep(args: argparse.Namespace) -> int:
    from fedapm_mpi.cluster.site import read_site
    from fedapm_mpi.cluster.slurm.scripts import TrainJob, render_step, render_training
    from fedapm_mpi.cluster.slurm.submit import check_site, submit_script
    from fedapm_mpi.studies.sweep.grid import notes_on, read_sweep, write_cells
    from fedapm_mpi.utils.terminal import echo
    from fedapm_mpi.utils.text import format_ids

    cells, folder = read_sweep(args.sweep)
    for note in notes_on(cells):
        log.info("%s", note)
    out: str = args.out or "runs"
    todo = [k for k, cell in enumerate(cells) if not cell.finished]
    if not todo:
        echo(f"all {len(cells)} cells are finished")
        return 0
    site, shape = read_site(args.site), shape_of(args)
    name = job_name(args, args.sweep.stem)
    limit = "" if args.max_concurrent is None else f"%{args.max_concurrent}"
    training = TrainJob(
        name=name,
        config=str(folder),
        run_dir=str(folder),
        array=f"{format_ids(todo)}{limit}",
    )
    script = render_training(site, shape, training, out)
    if args.verb == "render":
        print(script, end="")  # noqa: T201
        return 0
    check_site(site)
    write_cells(cells, folder)
    job = submit_script(script, folder / f"{name}.sbatch", out, args.after)
    echo(f"job {job}: {len(todo)} of {len(cells)} cells, {shape.ranks} ranks each")
    words = ["sweep", "table", str(args.sweep)]
    text = render_step(site, f"{name}-table", words, "10", out)
    last = submit_script(
        text, folder / f"{name}-table.sbatch", out, [f"afterany:{job}"]
    )
    echo(f"job {last}: {shlex.join(words)}, into {folder / 'sweep.csv'}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from fedapm_mpi.cluster.site import read_site
    from fedapm_mpi.cluster.slurm.scripts import (
        JobResources,
        TrainJob,
        render_step,
        render_training,
    )
    from fedapm_mpi.cluster.slurm.submit import check_site, submit_script
    from fedapm_mpi.studies.scaling.points import lay_out, points_of
    from fedapm_mpi.studies.scaling.study import load
    from fedapm_mpi.utils.terminal import echo

    study = load(args.study)
    shape_of(args)
    folder = Path(args.out or Path("runs") / args.study.stem)
    every = points_of if args.verb == "render" else lay_out
    points = [point for point in every(study, folder) if not point.finished]
    if not points:
        echo(f"all points are finished; next: fedapm scale report {folder}")
        return 0
    site = replace(read_site(args.site), cpus_per_task=study.cpus_per_rank)
    if study.launcher != "auto":
        site = replace(site, launcher=study.launcher)
    name, each = job_name(args, args.study.stem), args.ntasks_per_node or 1
    logs = str(folder / "points")
    scripts = {}
    for point in points:
        nodes = -(-point.ranks // each)
        shape = JobResources(
            nodes=nodes, tasks=point.ranks, tasks_per_node=each, time=args.time
        )
        training = TrainJob(
            name=name,
            config=str(point.config_path),
            run_dir=str(point.run),
            overrides=["--progress", "none"],
            fresh=True,
        )
        scripts[point.name] = render_training(site, shape, training, logs)
    if args.verb == "render":
        print(next(iter(scripts.values())), end="")  # noqa: T201
        return 0
    check_site(site)
    jobs = []
    for point in points:
        path = folder / "configs" / f"{point.name}.sbatch"
        jobs.append(
            submit_script(scripts[point.name], path, logs, [*args.after, "singleton"])
        )
        echo(f"job {jobs[-1]}: {point.name} on {point.ranks} ranks")
    words = ["scale", "report", str(folder)]
    text = render_step(site, f"{name}-report", words, "10", str(folder))
    after = [f"afterany:{':'.join(jobs)}"]
    last = submit_script(text, folder / f"{name}-report.sbatch", str(folder), after)
    echo(f"job {last}: {shlex.join(words)}")
    return 0


def job_name(args: argparse.Namespace, stem: str) -> str:
    """Return the name of the job: the one that was given, or that of a file."""
    from fedapm_mpi.cluster.slurm.quoting import check_name, name_for

    return name_for(stem) if args.job_name is None else check_name(args.job_name)


def shape_of(args: argparse.Namespace) -> "JobResources":
    """Return the nodes and tasks that the command line asks for.

    Raises
    ------
    ConfigError
        If a number is not above 0.
    """
    from fedapm_mpi.cluster.slurm.scripts import JobResources
    from fedapm_mpi.utils.duration import parse_duration

    parse_duration(args.time)
    for option in ("nodes", "ntasks_per_node", "ntasks", "max_concurrent"):
        value = getattr(args, option)
        if value is not None and value < 1:
            msg = f"--{option.replace('_', '-')} must be at least 1, not {value}"
            raise ConfigError(msg)
    return JobResources(
        nodes=args.nodes or 1,
        tasks_per_node=args.ntasks_per_node,
        tasks=args.ntasks,
        time=args.time,
    )
