"""Show the contents of a prepared data set, or how clients differ in a run."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.column_lines import column_lines
from fedapm_mpi.cli.command import LocalCommand
from fedapm_mpi.data.manifest import MANIFEST, InputSpec, Manifest, read_manifest
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.terminal import printable
from fedapm_mpi.utils.text import format_some, shorten

HELP = "show the contents of a prepared data set, or how clients differ in a run"

MAX_CLIENTS = 30
"""Clients shown one by one; of more, an excerpt is shown."""

MAX_CLASSES = 16
"""Classes shown one by one; of more, the last column counts the others."""

MAX_NAME_LENGTH = 60
"""Characters of the name of a data set or a class that are shown."""

MAX_LINE_LENGTH = 2000
"""Characters of a line on the whole data set, as manifests may hold anything."""


class InspectCommand(LocalCommand):
    """Show a prepared data set, or a run."""

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command's arguments."""
        parser.add_argument(
            "data",
            type=Path,
            metavar="DATA",
            help="directory of the data set, or of a run",
        )
        parser.add_argument(
            "--plot",
            type=Path,
            metavar="FILE",
            help="plot the samples of each client and class to FILE, or LM by layer",
        )
        parser.add_argument(
            "--trust",
            action="store_true",
            help="import the custom code that a run names, even if not made here",
        )
        parser.old_flags["--picture"] = "--plot"

    def execute(self, args: argparse.Namespace) -> int:
        """Print what the manifest says; draw it if asked to."""
        if args.plot and not args.plot.parent.is_dir():
            msg = f"--plot: there is no folder {args.plot.parent}; create it first"
            raise ConfigError(msg)
        if is_run(args.data):
            show_run(args.data, args.plot, trust=args.trust)
            return 0
        manifest = read_manifest(args.data)
        sys.stdout.write(overview(manifest) + "\n" + client_table(manifest))
        if args.plot:
            from fedapm_mpi.analysis.partition_plot import draw_partition

            draw_partition(manifest, args.plot)
            sys.stdout.write(f"\nplotted in {printable(str(args.plot))}\n")
        return 0


COMMAND = InspectCommand()


def is_run(path: Path) -> bool:
    """Return whether a folder holds a run, not a data set."""
    return (path / "config.yaml").is_file() and not (path / MANIFEST).is_file()


def show_run(path: Path, plot: Path | None, *, trust: bool = False) -> None:
    """Print LM of every shared layer of a run; draw it if asked to.

    It is that of the run's last record that has it, or else measured in the run's final
    state.

    Raises
    ------
    DataError
        If the run's records cannot be read, or it is not finished and they hold no
        multiplier test.
    """
    # Only here, since a data set needs none of it.
    from fedapm_mpi.analysis import layer_tests
    from fedapm_mpi.analysis.run import Run

    run = Run.load(path)
    recorded = layer_tests.last_test(run)
    if recorded is not None:
        _, values = recorded
        layer_tests.print_layers([run])
    else:
        from fedapm_mpi.analysis.client_model import measure_final_state

        tests = measure_final_state(path, trust=trust)
        values = {name: test.lm for name, test in tests.items()}
        layer_tests.print_tests(tests)
    if plot:
        layer_tests.draw_layers_to({run.label: values}, plot)
        sys.stdout.write(f"\nplotted in {printable(str(plot))}\n")


def overview(manifest: Manifest) -> str:
    """Return totals, inputs and heterogeneity in some lines."""
    from data_prep.label_skew import heterogeneity

    files = manifest.files
    size = sum(file.bytes for file in files) / 2**20
    options = dict(manifest.partitioner)
    name, moved = options.pop("name", "unknown"), options.pop("moved", 0)
    skew = heterogeneity(manifest.label_counts["train"])
    lines = [
        f"data set       {shorten(manifest.dataset, MAX_NAME_LENGTH)}",
        f"clients        {manifest.num_clients}{_new(manifest)}",
        *_of_target(manifest),
        f"partitioner    {_called(name, options)}, seed {manifest.seed}; "
        f"{moved} samples moved to reach the minimum",
        *(
            f"shift          {_called(one['name'], one)}{_drawn(one['name'], manifest)}"
            for one in manifest.preparation.get("shift", [])
        ),
        f"split          {_split(manifest)}",
        *(
            f"left out       {len(names)} broken samples: {_some(names)}"
            for names in [manifest.preparation.get("skipped", [])]
            if names
        ),
        f"files          {len(files)} of {size:.1f} MiB in all",
    ]
    for spec in manifest.inputs:
        lines += _of_input(manifest, spec)
    if manifest.target is not None and manifest.target.incomplete:
        lines.append("lacking        samples may lack some of their targets")
    if manifest.weights:
        lines.append("weights        one for each sample")
    for split, counts in manifest.counts.items():
        low, middle, high = np.percentile(counts, [0, 50, 100])
        lines.append(
            f"{split:<15}{counts.sum()} samples; of a client {low:.0f} to {high:.0f}, "
            f"median {middle:g}{_without(counts)}"
        )
    lines += [
        f"label skew of train, mean over clients{_by(manifest)}",
        f"  Jensen-Shannon distance to the pooled labels   {skew.jensen_shannon:.3f}",
        f"  total-variation distance to the pooled labels  {skew.total_variation:.3f}",
        f"  effective number of classes                    {skew.effective_classes:.2f}"
        f" of {len(manifest.classes)}",
    ]
    return "\n".join(shorten(printable(line), MAX_LINE_LENGTH) for line in lines) + "\n"


def _of_input(manifest: Manifest, spec: InputSpec) -> list[str]:
    """Return lines on an input, and on who lacks it or some of its columns."""
    shape = "x".join(map(str, spec.shape)) or "number"
    seen = "as stored"
    if (spec.scale, spec.shift) != (1.0, 0.0):
        seen = f"seen as stored * {spec.scale:.6g} {spec.shift:+g}"
    if spec.codes:
        seen = f"each one of {spec.codes} codes"
    ragged = ", varying length" if spec.ragged else ""
    kind = f"complex, parts {spec.dtype}" if spec.complex else spec.dtype
    lines = [f"input          {spec.name}: {shape} {kind}{ragged}, {seen}"]
    without = manifest.lacking.get(spec.name, ())
    if without:
        of = f"{len(without)} of {manifest.num_clients} clients"
        lines.append(f"               {of} have no sample of it")
    return lines + [f"{' ' * 15}{line}" for line in column_lines(manifest, spec)]


def _new(manifest: Manifest) -> str:
    """Return how many clients have no part in training."""
    new = manifest.new_clients
    return f", of which the last {new} are new: no part in training" * bool(new)


def _of_target(manifest: Manifest) -> list[str]:
    """Return lines on what models are to give."""
    target, classes = manifest.target, manifest.classes
    if target is None:
        return [f"classes        {len(classes)}: {_some(classes)}"]
    if target.kind == "binary":
        shares = zip(target.names, target.mean, strict=True)
        each = _some([f"{name} ({share:.1%})" for name, share in shares])
        return [
            f"labels         {len(target.names)}, with their shares of train: {each}"
        ]
    if target.kind == "dense":
        common = sorted(zip(target.names, target.mean, strict=True), key=_rarity)
        each = _some([f"{name} ({share:.1%})" for name, share in common])
        return [
            f"positions      {' x '.join(map(str, target.shape))}, each of "
            f"{len(target.names)} classes, with their shares of train: {each}"
        ]
    columns = zip(target.names, target.mean, target.std, strict=True)
    each = _some([f"{name} ({mean:.4g} ± {std:.4g})" for name, mean, std in columns])
    return [
        f"targets        {len(target.names)}, with mean and deviation of train: {each}",
        f"counted in     {len(classes)} ranges: {_some(classes)}",
    ]


def _by(manifest: Manifest) -> str:
    """Return what samples with targets are counted by."""
    if manifest.target is None:
        return ""
    first = shorten(printable(manifest.target.names[0]), 40)
    return {
        "real": f", by range of {first}",
        "binary": ", each under its rarest label",
        "dense": ", each under its most frequent class",
    }[manifest.target.kind]


def _rarity(share: tuple[str, float]) -> float:
    return -share[1]


def _drawn(shift: str, manifest: Manifest) -> str:
    return "" if shift == "standardise" else f", seed {manifest.seed}"


def _split(manifest: Manifest) -> str:
    """Return who made the split, and how."""
    made = manifest.preparation
    kind = made.get("split")
    if not isinstance(kind, str):
        return "as given by what wrote the data set"
    if kind == "own":
        return "the data set's own"
    parts = [
        f"{100 * made[name]:.4g} % {name}"
        for name in ("test", "val")
        if _is_share(made.get(name)) and (made[name] or name == "test")
    ]
    how = {
        "random": "random, stratified",
        "official": "official (shuffled and cut, one sample of each client left out)",
    }.get(kind, kind)
    return f"{how}, {', '.join(parts)} (seed {manifest.seed})"


def _is_share(value: Any) -> bool:
    # What a manifest says of its making may come from any program.
    return isinstance(value, int | float) and 0 <= value <= 1


def _without(counts: NDArray[np.int64]) -> str:
    none = int((counts == 0).sum())
    if not none:
        return ""
    return f"; {none} of {len(counts)} clients {'has' if none == 1 else 'have'} none"


def client_table(manifest: Manifest) -> str:
    """Return training samples by client and class, an excerpt if there are many."""
    counts = manifest.label_counts["train"]
    m, classes = counts.shape
    shown = list(range(m))
    if m > MAX_CLIENTS:
        # By size, evenly from the smallest to the largest.
        by_size = np.argsort(counts.sum(axis=1), kind="stable")
        picks = np.linspace(0, m - 1, MAX_CLIENTS).round().astype(int)
        shown = sorted(by_size[picks].tolist())
    columns = min(classes, MAX_CLASSES)
    parts = list(manifest.counts)  # train first
    header = ["client", "name", *map(str, range(columns))]
    if columns < classes:
        header.append("others")
    header += parts
    rows = [header]
    for client in shown:
        own = counts[client]
        cells = [str(client), shorten(printable(manifest.client_names[client]), 24)]
        cells += map(str, own[:columns].tolist())
        if columns < classes:
            cells.append(str(own[columns:].sum()))
        cells += [str(manifest.counts[part][client]) for part in parts]
        rows.append(cells)
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [f"training samples by client and class{_by(manifest)}"]
    for cells in rows:
        line = (
            cell.ljust(width) if i == 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        lines.append("  ".join(line).rstrip())
    if m > MAX_CLIENTS:
        levels = [0, 5, 25, 50, 75, 95, 100]
        values = np.percentile(counts.sum(axis=1), levels)
        lines.append(f"({MAX_CLIENTS} of {m} clients, evenly by size)")
        lines.append(
            "train samples of a client, quantiles: "
            + ", ".join(f"{q} % {v:g}" for q, v in zip(levels, values, strict=True))
        )
    return "\n".join(lines) + "\n"


def _called(name: str, options: Mapping[str, Any]) -> str:
    rest = [f"{key}={value}" for key, value in options.items() if key != "name"]
    return name + (f" ({', '.join(rest)})" if rest else "")


def _some(names: Sequence[str]) -> str:
    return format_some(names, MAX_CLASSES, MAX_NAME_LENGTH)
