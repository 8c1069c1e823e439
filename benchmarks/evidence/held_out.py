"""Clients that no round has seen: their accuracy by the samples that they bring.

    python -m benchmarks.evidence.held_out DATA --out OUT --to docs/results/evidence
                                           [--sets NAME...] [--methods M...]

DATA is what ``benchmarks.evidence.data`` wrote, and ``--to`` has the settings of the
study. Every fifth client is held out. Each method trains, with the setting that it was
given on all clients, on the others alone. A new client then gets the shared model, and
the mean of the personal blocks of the clients that took part; with some samples of its
own it fits its personal block, the shared one fixed, or the whole model. Which of them,
and how long, of `EPOCHS`, is chosen for each method and number of samples on the new
clients' val parts with the first seed; test parts are then evaluated with all seeds.

Writes ``held_out.csv``, a row a run, and ``held_out.md``. What is there is not
repeated.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._data import TRAIN, Arrays
from benchmarks.evidence.sets import FULL, SETS
from benchmarks.evidence.study import FIRST_TEST_SEED, METHODS
from data_prep.pipeline import plan, prepare
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.api import train
from fedapm_mpi.config.yaml_io import parse
from fedapm_mpi.engine.tensor_files import read_tensors, write_tensors
from fedapm_mpi.studies.tune.method_space import INVERSE_STEPS
from fedapm_mpi.utils.atomic_io import write_text

HELD_OUT = 5
"""Every client of this many is held out."""

SAMPLES = (0, 2, 5, 10, 30)
"""Samples of a new client that its personal block is fitted to, or all it has."""

EPOCHS = (1, 3, 10, 30)
SEEDS = 3
LIGHT = [name for name, one in SETS.items() if one.test_seeds >= 5]

FIELDS = (
    "set", "method", "seed", "samples", "block", "epochs", "accuracy", "worst_decile",
)  # fmt: skip


class Trained(NamedTuple):
    """What a method has left to new clients."""

    setting: Mapping[str, Any]
    start: Path
    """File of the tensors that a new client's model starts from."""

    blocks: tuple[str, ...]
    """The parameters that a new client may fit."""


def parts_of(arrays: Arrays, samples: int | None) -> Arrays:
    """Return the arrays of the clients that train, or of new ones with some samples.

    Parameters
    ----------
    arrays
        Those of all clients.
    samples
        Training samples that a new client brings, drawn from its own; `None` for the
        clients that are not held out.
    """
    names = np.unique(arrays["client"])
    new = np.isin(arrays["client"], names[HELD_OUT - 1 :: HELD_OUT])
    if samples is None:
        return {key: value[~new] for key, value in arrays.items()}
    kept, rng = new.copy(), np.random.default_rng(0)
    for name in names[HELD_OUT - 1 :: HELD_OUT]:
        own = np.flatnonzero((arrays["client"] == name) & (arrays["split"] == TRAIN))
        kept[rng.permutation(own)[max(1, samples) :]] = False
    return {key: value[kept] for key, value in arrays.items()}


def prepared(data: Path, name: str, samples: int | None, out: Path) -> Path:
    """Return the data set of some of the clients, made if need be."""
    label = f"{name}-seen" if samples is None else f"{name}-new-{samples}"
    folder = out / "data" / label
    if not (folder / "manifest.json").exists():
        with np.load(data / "raw" / f"{name}.npz") as stored:
            chosen: Any = parts_of(dict(stored), samples)
        raw = out / "data" / "raw" / f"{label}.npz"
        raw.parent.mkdir(parents=True, exist_ok=True)
        np.savez(raw, **chosen)
        prepare(plan("arrays", {}), raw, folder)
    return folder


def trained(setting: dict[str, Any], data: Path, seed: int, folder: Path) -> Trained:
    """Train a method on the clients that are not held out."""
    run = folder / f"seen-{seed}"
    rounds = setting["rounds"]
    changes: dict[str, Any] = {
        "data": str(data), "seed": seed,
        "evaluation": {"every": rounds, "fine_tune": None},
        "checkpoint": {"every": rounds},
    }  # fmt: skip
    train(setting, run_dir=run, resume=run.exists(), **changes)
    shared = read_tensors(run / "final" / "shared.safetensors")
    models = [load_client_model(run, k) for k in range(len(Run.load(run).clients))]
    start: dict[str, torch.Tensor] = {}
    for name in models[0].state_dict():
        own = [one.state_dict()[name] for one in models]
        start[name] = shared[name] if name in shared else torch.stack(own).mean(0)
    path = folder / f"start-{seed}.safetensors"
    write_tensors(path, start)
    divided = shared.keys() and shared.keys() != start.keys()
    return Trained(setting, path, ("personal", "all") if divided else ("all",))


def step_size(algorithm: Mapping[str, Any]) -> float:
    """Return the size of a method's local steps, of those on a client's own part."""
    steps = ("lr_personal", "lr_fine_tune", "lr", "lr_shared", "lr_body", "lr_global")
    for key in steps:
        if algorithm.get(key):
            return float(algorithm[key])
    inverse = next(key for key in INVERSE_STEPS if key in algorithm)
    return 1 / (float(algorithm["rho"]) + float(algorithm[inverse]))


Fit = tuple[str, int]
"""The block that a new client fits, and its epochs."""


def accuracy(
    one: Trained, data: Path, part: str, seed: int, fit: Fit, folder: Path
) -> tuple[float, float]:
    """Return the new clients' mean accuracy and worst decile before any round."""
    algorithm = one.setting["algorithm"]
    lr = step_size(algorithm)
    block, epochs = fit
    tuning = {"block": block, "lr": lr, "work": {"epochs": epochs}}
    values = {
        "data": str(data),
        "model": one.setting["model"],
        "algorithm": {"name": "fedsim", "lr": lr, "batch_size": 16},
        "optimizer": one.setting["optimizer"],
        "split": one.setting["split"] if "personal" in one.blocks else {"personal": []},
        "initial_model": str(one.start),
        "rounds": 1,
        "seed": seed,
        "evaluation": {"split": part, "fine_tune": tuning if epochs else None},
    }
    run = folder / f"{data.name}-{part}-{seed}-{block}-{epochs}"
    train(values, run_dir=run, resume=run.exists())
    first = Run.load(run).records[0]
    assert first["round"] == 0
    return first["accuracy"], first["accuracy_worst_decile"]


def cell(data: Path, out: Path, to: Path, name: str, method: str) -> list[list[Any]]:
    """Return the rows of a method on a data set."""
    *_, path = needed(data, to, [name], [method])
    setting = parse(path.read_text("utf-8"))
    folder = out / name / method
    seen = prepared(data, name, None, out)
    seeds = range(FIRST_TEST_SEED, FIRST_TEST_SEED + SEEDS)
    left = {seed: trained(setting, seen, seed, folder) for seed in seeds}
    rows = []
    for samples in SAMPLES:
        new, fit = prepared(data, name, samples, out), ("all", 0)
        if samples:
            first = left[FIRST_TEST_SEED]
            fits = [fit, *((block, e) for block in first.blocks for e in EPOCHS)]
            fit = max(
                fits,
                key=lambda one: accuracy(
                    first, new, "val", FIRST_TEST_SEED, one, folder
                ),
            )
        for seed in seeds:
            found = accuracy(left[seed], new, "test", seed, fit, folder)
            rows.append([name, method, seed, samples, *fit, *found])
    return rows


def table(rows: Sequence[Mapping[str, str]], name: str) -> str:
    """Return the table of a data set, the methods by their mean over all columns."""
    own = [row for row in rows if row["set"] == name]
    lines = []
    for method in dict.fromkeys(row["method"] for row in own):
        texts, means = [], []
        for samples in SAMPLES:
            values = [
                float(row["accuracy"]) for row in own
                if row["method"] == method and int(row["samples"]) == samples
            ]  # fmt: skip
            means.append(fmean(values))
            texts.append(f"{means[-1]:.3f} ± {stdev(values):.3f}")
        lines.append((-fmean(means), [method, *texts]))
    header = ["method", *(f"{samples} samples" for samples in SAMPLES)]
    found = [header, ["---"] * len(header), *(line for _, line in sorted(lines))]
    return "\n".join(f"| {' | '.join(line)} |" for line in found)


def needed(
    data: Path, to: Path, sets: Sequence[str], methods: Sequence[str]
) -> Iterator[Path]:
    """Yield the arrays and settings that a study reads."""
    for name in sets:
        yield data / "raw" / f"{name}.npz"
        for method in methods:
            yield to / "settings" / name / FULL / f"{method}.yaml"


def main() -> None:
    """Do what is not there yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=LIGHT, choices=LIGHT)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    args = parser.parse_args()
    for path in needed(args.data, args.to, args.sets, args.methods):
        if not path.exists():
            parser.error(f"{path} does not exist; {parser.prog} --help says what it is")
    for name in args.sets:
        for method in args.methods:
            path = args.out / name / f"{method}.json"
            if path.exists():
                continue
            rows = cell(args.data.absolute(), args.out, args.to, name, method)
            path.write_text(json.dumps(rows), encoding="utf-8")
            print(name, method, "done", flush=True)
    found = [
        dict(zip(FIELDS, map(str, row), strict=True))
        for path in sorted(args.out.glob("*/*.json"))
        for row in json.loads(path.read_text("utf-8"))
    ]
    with (args.to / "held_out.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    names = dict.fromkeys(row["set"] for row in found)
    parts = [f"{name}\n\n{table(found, name)}\n" for name in names]
    write_text(args.to / "held_out.md", "\n".join(parts))


if __name__ == "__main__":
    main()
