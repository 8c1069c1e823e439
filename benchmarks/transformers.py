"""A Hugging Face encoder with adapters: AdamW with warm-up next to SGD at five steps.

    python -m benchmarks.transformers [--rounds 12] [--seeds 1 2 3]
        [--steps 0.03 0.1 0.3 1 3] [--scheduled] [--csv FILE]

Run it in the checkout, with ``transformers`` (extra ``text``). It trains
examples/encoder.yaml on that example's made-up sentences: as it is, which is AdamW with
warm-up, a linear schedule and clipping; then with plain SGD, each step size for both
blocks; with ``--scheduled`` then with SGD under the same schedule and clipping, which
shows what the optimizer itself is worth. Everything else, the penalty and the rounds
included, is the same in all runs.
"""

import argparse
import runpy
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch

import fedapm_mpi
from benchmarks._common import keep, machine
from fedapm_mpi.cli.main import main as fedapm

EXAMPLES = Path(__file__).parents[1] / "examples"
STEPS = (0.03, 0.1, 0.3, 1.0, 3.0)
SETTINGS: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "SGD": {"optimizer": None, "schedule": None, "clip": None},
    "SGD, scheduled": {"optimizer": None},
}
"""Keys that are replaced in the example, by what is compared."""


class Result(NamedTuple):
    """A run's figures after its last round, over all clients."""

    train_loss: float
    loss: float
    accuracy: float


def prepare(folder: Path) -> Path:
    """Write the example's sentences as a data set and return its folder."""
    file, data = folder / "sentences.npz", folder / "sentences"
    runpy.run_path(str(EXAMPLES / "my_encoder.py"))["write_sentences"](file)
    words = ["prepare", "arrays", "--from", str(file), "--to", str(data)]
    with redirect_stdout(StringIO()):
        failed = fedapm(words)
    if failed:
        msg = "the sentences could not be prepared"
        raise RuntimeError(msg)
    return data


def train(data: Path, rounds: int, seed: int, changes: dict[str, Any]) -> Result:
    """Train the example with some keys replaced."""
    with tempfile.TemporaryDirectory() as folder:
        config = fedapm_mpi.load_config(
            EXAMPLES / "encoder.yaml",
            data=str(data),
            rounds=rounds,
            seed=seed,
            evaluation={"every": rounds},
            checkpoint={"every": rounds},
            **changes,
        )
        run = Path(folder, "run")
        with redirect_stdout(StringIO()):
            fedapm_mpi.train(config, run_dir=run, progress="none")
        last = fedapm_mpi.load_run(run).records[-1]
    return Result(*(float(last[name]) for name in Result._fields))


def cells(
    names: Sequence[str], steps: Sequence[float]
) -> Iterator[tuple[str, float | None, dict[str, Any]]]:
    """Yield what is compared: name, step size if not the example's, changed keys."""
    for name in names:
        for step in (None,) if name == "AdamW" else steps:
            rates = {"lr_personal": step, "lr_shared": step}
            yield (
                name,
                step,
                SETTINGS[name] | ({} if step is None else {"algorithm": rates}),
            )


def main(words: Sequence[str] | None = None) -> None:
    """Train all and print the table and the answer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transformers")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=float, nargs="+", default=list(STEPS))
    parser.add_argument("--scheduled", action="store_true")
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    names = list(SETTINGS) if args.scheduled else ["AdamW", "SGD"]
    torch.set_num_threads(1)
    print(machine(), flush=True)
    print("| optimizer | step size | train loss | test loss | accuracy |")
    print("|---|---|---|---|---|", flush=True)
    found: dict[tuple[str, float | None], list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(Path(folder))
        for name, step, changes in cells(names, args.steps):
            results = [train(data, args.rounds, seed, changes) for seed in args.seeds]
            found[name, step] = results
            means = (
                _mean_and_deviation(column) for column in zip(*results, strict=True)
            )
            print(f"| {name} | {step or 'its own'} | {' | '.join(means)} |", flush=True)
    for other in names[1:]:
        print(_answer(found, other, args.steps))
    lines = [
        [name, step, seed, *one]
        for (name, step), results in found.items()
        for seed, one in zip(args.seeds, results, strict=True)
    ]
    keep(args.csv, ["optimizer", "step", "seed", *Result._fields], lines)


def _mean_and_deviation(values: Sequence[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def _answer(
    found: dict[tuple[str, float | None], list[Result]],
    other: str,
    steps: Sequence[float],
) -> str:
    """Return in how many seeds AdamW is below the best step of `other` for the seed."""
    ours = found["AdamW", None]
    below = {
        name: sum(
            getattr(own, name) < min(getattr(found[other, s][k], name) for s in steps)
            for k, own in enumerate(ours)
        )
        for name in ("train_loss", "loss")
    }
    best = min(steps, key=lambda s: statistics.mean(r.loss for r in found[other, s]))
    edge = best in (min(steps), max(steps))
    note = "; the best step is at the end of those tried" if edge else ""
    return (
        f"AdamW is below the best step of {other} (test loss: {best:g}) in "
        f"{below['train_loss']} of {len(ours)} seeds in train loss, in "
        f"{below['loss']} in test loss{note}"
    )


if __name__ == "__main__":
    main()
