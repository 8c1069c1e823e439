"""Run a scaling study, report on it, fit a model of its times, and predict others."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import LocalCommand

HELP = "measure how rounds scale: run a study, report, fit, simulate"


class ScaleCommand(LocalCommand):
    """Run a scaling study, or use one."""

    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parts = parser.add_subparsers(metavar="ACTION", required=True)
        run_ = parts.add_parser("run", help="run every point of a study")
        run_.add_argument(
            "study", type=Path, metavar="STUDY", help="YAML file of a study"
        )
        run_.add_argument(
            "--out",
            type=Path,
            metavar="DIR",
            help="folder of the study (default: runs/ and the name of STUDY)",
        )
        run_.set_defaults(part=_run, trust=True)  # the user names it
        report = parts.add_parser(
            "report", help="speed-up, efficiency, phases, figures"
        )
        report.add_argument("study", type=Path, metavar="DIR", help="a study's folder")
        report.set_defaults(part=_report, trust=False)
        model = parts.add_parser(
            "fit", help="fit a model of round times and predict more ranks"
        )
        parser.old_actions["model"] = "fit"
        model.add_argument("study", type=Path, metavar="DIR", help="a study's folder")
        model.add_argument(
            "--predict",
            metavar="RANKS",
            default="100,1000,10000",
            help="numbers of client ranks to predict, with commas (default: "
            "100,1000,10000)",
        )
        model.add_argument(
            "--clients",
            metavar="N",
            help="numbers of clients to predict, with commas, such as 1e7 (default: "
            "those of the data, and per rank that of the weak study)",
        )
        model.add_argument(
            "--ranks-per-node",
            type=int,
            metavar="N",
            help="ranks that share a node (default: as in the largest point)",
        )
        model.set_defaults(part=_model)
        simulate = parts.add_parser("simulate", help="replay the rounds on a platform")
        simulate.add_argument(
            "study", type=Path, metavar="DIR", help="a study's folder"
        )
        simulate.add_argument(
            "platform", type=Path, metavar="PLATFORM", help="YAML file of a machine"
        )
        simulate.set_defaults(part=_simulate)
        for one in (model, simulate):
            one.add_argument(
                "--trust",
                action="store_true",
                help="import the custom code that the study's folder names",
            )

    def execute(self, args: argparse.Namespace) -> int:
        """Run the action; return the exit code."""
        from fedapm_mpi.plugins.loader import forbid_imports

        # A folder may come from anywhere: reading it runs no code that it names.
        reason = f"it is named in {args.study}; if you trust that, add --trust"
        with nullcontext() if args.trust else forbid_imports(reason):
            code: int = args.part(args)
        return code


COMMAND = ScaleCommand()


def _report(args: argparse.Namespace) -> int:
    from fedapm_mpi.studies.scaling.report import report

    return report(args.study)


def _model(args: argparse.Namespace) -> int:
    from fedapm_mpi.studies.scaling.model_report import as_numbers, model

    clients = as_numbers(args.clients, "--clients") if args.clients else []
    ranks = sorted(set(as_numbers(args.predict, "--predict")))
    if args.ranks_per_node is not None:
        as_numbers(str(args.ranks_per_node), "--ranks-per-node")
    code: int = model(args.study, ranks, clients, args.ranks_per_node)
    return code


def _simulate(args: argparse.Namespace) -> int:
    from fedapm_mpi.studies.scaling.simulate_report import simulate

    return simulate(args.study, args.platform)


def _run(args: argparse.Namespace) -> int:
    # Only here and below: this loads torch, which --help can do without.
    from fedapm_mpi.studies.scaling.points import lay_out
    from fedapm_mpi.studies.scaling.runner import run_points
    from fedapm_mpi.studies.scaling.study import load
    from fedapm_mpi.utils.terminal import echo

    study = load(args.study)
    root: Path = args.out or Path("runs") / args.study.stem
    run_points(study, lay_out(study, root))
    echo(f"all points are finished; next: fedapm scale report {root}")
    return 0
