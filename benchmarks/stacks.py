"""Rounds of many small clients: in stacks, one by one, and in a loop written by hand.

    python -m benchmarks.stacks [--work mlp logistic] [--turns 5] [--csv FILE]

The works are an MLP of 2 762 parameters on 30 clients, and a logistic model on 1 000
clients. The loop stacks all clients by hand: one batched matrix product for each layer,
plain SGD on the matrices of parameters, and a mean; nothing is federated about it, and
nothing is evaluated or recorded. All take turns on one core with one thread; figures
are medians over turns of the CPU seconds of a round.
"""

import argparse
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks._common import keep, machine
from data_prep.pipeline import plan, prepare
from fedapm_mpi.api import train
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import FedAPMError

FEATURES, CLASSES, BATCH, LR = 42, 12, 16, 0.1


class Work(NamedTuple):
    """What is trained."""

    clients: int
    samples: int
    """Training samples of each client; as many batches make an epoch."""

    hidden: tuple[int, ...]
    rounds: int
    """Of a turn."""


WORKS = {
    "mlp": Work(30, 13 * BATCH, (50,), 10),
    "logistic": Work(1000, 50, (), 2),
}
METHODS = ("local", "fedavg", "fedapm")


def write(work: Work, root: Path) -> Path:
    """Prepare made-up samples; return the data set's folder."""
    rng = np.random.default_rng(0)
    each = work.samples + 1  # one to test on, as every data set needs
    count = work.clients * each
    x = rng.normal(size=(count, FEATURES)).astype(np.float32)
    y = (x[:, :CLASSES] + rng.normal(size=(count, CLASSES))).argmax(1)
    raw = root / "raw.npz"
    client, split = np.divmod(np.arange(count), each)
    np.savez(
        raw, x_features=x, y=y, client=client, split=(split == each - 1).astype(int)
    )
    prepare(plan("arrays", {}), raw, root / "data")
    return root / "data"


def by_hand(work: Work) -> Callable[[], None]:
    """Return a round of FedAvg on stacked clients."""
    generator = torch.Generator().manual_seed(0)
    shape = (work.clients, work.samples, FEATURES)
    x = torch.randn(shape, generator=generator)
    y = torch.randint(CLASSES, shape[:2], generator=generator)
    widths = (FEATURES, *work.hidden, CLASSES)
    layers = [
        torch.randn(work.clients, a, b, generator=generator) / a**0.5
        for a, b in pairwise(widths)
    ]
    parameters: list[Tensor] = []
    for weight in layers:
        bias = torch.zeros(work.clients, 1, weight.shape[2])
        parameters += [weight.requires_grad_(), bias.requires_grad_()]
    steps = -(-work.samples // BATCH)

    def step(rows: Tensor) -> None:
        clients = torch.arange(work.clients)[:, None]
        h, labels = x[clients, rows], y[clients, rows]
        for k in range(0, len(parameters), 2):
            h = torch.baddbmm(parameters[k + 1], h, parameters[k])
            h = h.relu() if k + 2 < len(parameters) else h
        losses = cross_entropy(h.flatten(0, 1), labels.flatten(), reduction="none")
        total = losses.view(work.clients, -1).mean(1).sum()
        found = torch.autograd.grad(total, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, found, strict=True):
                parameter.sub_(gradient, alpha=LR)

    def round_() -> None:
        order = torch.rand(work.clients, work.samples, generator=generator).argsort(1)
        for k in range(steps):
            step(order[:, k * BATCH : (k + 1) * BATCH])
        with torch.no_grad():
            for parameter in parameters:
                parameter.copy_(parameter.mean(0, keepdim=True))

    return round_


def configuration(work: Work, data: Path, method: str, stacked: str) -> dict[str, Any]:
    """Return the experiment; all of a round's work is an epoch of plain SGD."""
    epoch = {"epochs": 1}
    steps = {
        "local": {"lr": LR, "work": epoch},
        "fedavg": {"lr": LR, "work": epoch},
        "fedapm": {"lr_shared": LR, "lr_personal": LR, "joint_work": epoch, "rho": 0.1},
    }
    model = {"name": "mlp", "hidden": list(work.hidden)} if work.hidden else "logistic"
    return {
        "data": str(data),
        "model": model,
        "algorithm": {"name": method, "batch_size": BATCH, **steps[method]},
        "optimizer": "sgd",
        "schedule": "constant",
        "rounds": work.rounds,
        "stacked": stacked,
        "evaluation": {"every": 10_000, "pooled": False},
        "checkpoint": {"every": 10_000},
        "loggers": ["jsonl"],
    }


def package(values: dict[str, Any], scratch: Path) -> float:
    """Return the CPU seconds of a round; those of the start are taken off."""
    spent = []
    for rounds in (values["rounds"], 3 * values["rounds"]):
        folder = Path(tempfile.mkdtemp(dir=scratch)) / "run"
        config = validate({**values, "rounds": rounds}, "benchmark")
        start = process_time()
        train(config, run_dir=folder)
        spent.append(process_time() - start)
    return (spent[1] - spent[0]) / (2 * int(values["rounds"]))


def measure(name: str, turns: int) -> list[tuple[str, str, float]]:
    """Return the median seconds of a round of each contender."""
    work = WORKS[name]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = write(work, Path(scratch))
        round_ = by_hand(work)
        round_()
        for _ in range(turns):
            start = process_time()
            for _ in range(work.rounds):
                round_()
            spent = (process_time() - start) / work.rounds
            found.setdefault("by hand", []).append(spent)
            for method in METHODS:
                for stacked in ("auto", "off"):
                    values = configuration(work, data, method, stacked)
                    spent = package(values, Path(scratch))
                    found.setdefault(f"{method}, stacked: {stacked}", []).append(spent)
    return [(name, who, median(seconds)) for who, seconds in found.items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    rows = []
    try:
        for name in args.work:
            found = measure(name, args.turns)
            (_, _, reference), *_ = found
            for work, who, seconds in found:
                ratio = seconds / reference
                print(f"{work:<10}{who:<26}{1000 * seconds:8.1f} ms  {ratio:5.2f}")
                rows.append((work, who, f"{seconds:.5f}", f"{ratio:.2f}"))
    except FedAPMError as error:
        raise SystemExit(str(error)) from error
    keep(args.csv, ("work", "who", "cpu_seconds_a_round", "of_by_hand"), rows)


if __name__ == "__main__":
    main()
