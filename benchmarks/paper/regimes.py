r"""Where duals must help: many local steps, unlike clients, long runs.

    python -m benchmarks.paper.regimes --data DATA --out RUNS [--to docs/results]

Every client's model is a softmax regression whose weights are shared and whose biases
are personal, with weight decay, so that the objective

.. math:: F(V, u) = \frac1m \sum_i f_i(v_i, u) + \tfrac\mu2 (\|u\|^2 + \|v_i\|^2)

has one minimum, which is found here by quasi-Newton in numpy, apart from the package.
Reported is how far above it a method is, round by round, for one, five and twenty local
epochs of full-batch steps in a block, all clients or 30 % of them, and Dir(0.5) or
Dir(0.1) clients. All methods take the same step size on a client's own loss. FedAPM's
penalty is 0.3 over the length of its local path, step size times epochs, in units of a
client's loss, whatever the regime; with the preset for few participants, whose dual
step is a tenth, it is one over that length. FedAlt and FedAPM alternate the blocks,
FedSim and the others step them jointly.

Finished runs are not repeated.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.paper.data import CLIENTS, REGIMES
from benchmarks.paper.runs import train
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.storage.checkpoint import find, load_server, load_states
from fedapm_mpi.utils.atomic_io import write_csv

EPOCHS = (1, 5, 20)
FRACTIONS = (1.0, 0.3)
METHODS = (
    "fedapm", "fedapm-joint", "fedapm-participants", "fedapm-preset", "fedalt", "fedsim"
)  # fmt: skip
ROUNDS, EVERY = 400, 20
STEP, DECAY = 0.1, 0.01
PULL = 0.3
"""FedAPM's penalty times the length of the local path; about the share of the way back
to the server's u that it takes a client."""

SMALL = (1e-2, 1e-4, 1e-6)
"""Distances from the minimum to which rounds are counted."""

Array = NDArray[np.float64]


class Cell(NamedTuple):
    """One run."""

    beta: float
    fraction: float
    epochs: int
    method: str

    @property
    def name(self) -> str:
        """Its folder."""
        return f"b{self.beta}-f{self.fraction}-e{self.epochs}-{self.method}"


def cells() -> Iterator[Cell]:
    """Yield every run of the study."""
    for beta in REGIMES:
        for fraction in FRACTIONS:
            for epochs in EPOCHS:
                for method in METHODS:
                    yield Cell(beta, fraction, epochs, method)


def algorithm(method: str, epochs: int, clients: int = CLIENTS) -> dict[str, Any]:
    """Return a method's options."""
    common = {"batch_size": 0, "weight_decay": DECAY}
    in_turn = {"personal_work": {"epochs": epochs}, "shared_work": {"epochs": epochs}}
    if method == "fedsim":
        return {"name": "fedsim", "lr": STEP, "work": {"epochs": epochs}} | common
    if method == "fedalt":
        steps = {"lr_personal": STEP, "lr_shared": STEP}
        return {"name": "fedalt"} | steps | in_turn | common
    preset = method == "fedapm-preset"
    penalty = (1.0 if preset else PULL) / (STEP * epochs) / clients
    average = "participants" if method == "fedapm-participants" else "all"
    own = {"sigma": penalty, "server_average": average}
    if preset:
        own = {"sigma": 0.0, "dual_step": 0.1, "server_average": "participants"}
    joint = {"block_order": "joint", "joint_work": {"epochs": epochs}}
    return {
        "name": "fedapm",
        "units": "weighted",
        "rho": penalty,
        "lr_personal": STEP * clients,
        "lr_shared": STEP * clients,
        **own,
        **(in_turn if method == "fedapm" else joint),
        **common,
    }


def configuration(cell: Cell, data: str, rounds: int = ROUNDS) -> Mapping[str, Any]:
    """Return the configuration of one run."""
    return {
        "data": f"{data}/regimes-b{cell.beta}",
        "model": "logistic",
        "split": {"personal": ["linear.bias"]},
        "algorithm": algorithm(cell.method, cell.epochs),
        "participation": {"name": "random", "fraction": cell.fraction},
        "rounds": rounds,
        "seed": 1,
        "dtype": "float64",
        "evaluation": {"every": rounds, "split": "train"},
        "checkpoint": {"every": EVERY, "keep": rounds},
    }


class Objective:
    """F in numpy, from the training samples in a data set's shards.

    Parameters
    ----------
    data
        Directory of the data set.
    """

    def __init__(self, data: str) -> None:
        manifest = read_manifest(data)
        reader = ShardReader(manifest)
        clients = [reader.read(i, "train") for i in range(manifest.num_clients)]
        (spec,) = manifest.inputs
        self.x = [c.inputs[spec.name].astype(np.float64) for c in clients]
        self.y = [c.labels for c in clients]
        self.shape = (len(manifest.classes), self.x[0].shape[1])
        reader.close()

    def value(self, biases: Array, weights: Array) -> tuple[float, Array, Array]:
        """Return F and its gradients at biases (m, K) and weights (K, p)."""
        m = len(self.x)
        value = DECAY / 2 * ((weights**2).sum() + (biases**2).sum() / m)
        slope_b, slope_w = DECAY * biases / m, DECAY * weights
        for i, (x, y) in enumerate(zip(self.x, self.y, strict=True)):
            logits = x @ weights.T + biases[i]
            logits -= logits.max(1, keepdims=True)
            odds = np.exp(logits)
            total = odds.sum(1)
            value += (np.log(total) - logits[np.arange(len(y)), y]).mean() / m
            error = odds / total[:, None]
            error[np.arange(len(y)), y] -= 1
            error /= m * len(y)
            slope_b[i] += error.sum(0)
            slope_w += error.T @ x
        return float(value), slope_b, slope_w

    def minimum(self) -> float:
        """Return the least value of F."""
        m, (classes, width) = len(self.x), self.shape
        cut = m * classes

        def flat(point: Array) -> tuple[float, Array]:
            biases, weights = point[:cut], point[cut:]
            value, slope_b, slope_w = self.value(
                biases.reshape(m, classes), weights.reshape(classes, width)
            )
            return value, np.concatenate([slope_b.ravel(), slope_w.ravel()])

        options = {"maxiter": 20_000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}
        start = np.zeros(cut + classes * width)
        found = minimize(flat, start, jac=True, method="L-BFGS-B", options=options)
        return float(found.fun)


def gaps(run: Path, objective: Objective, least: float) -> list[tuple[int, float]]:
    """Return, for every checkpoint of a run, its round and how far F is above `least`.

    F is taken at the server's u and the biases that the clients have.
    """
    classes, width = objective.shape
    found = []
    for saved in reversed(find(run / "checkpoints", [])):
        states = load_states(saved, range(len(objective.x)))
        biases = torch.stack([states[i]["personal"] for i in sorted(states)]).numpy()
        u = load_server(saved)["rows"][0].numpy()
        value, _, _ = objective.value(biases, u.reshape(classes, width))
        found.append((saved.round_index, value - least))
    return found


def table(curves: Mapping[Cell, Sequence[tuple[int, float]]]) -> str:
    """Return the last distances, and rounds to smaller ones, in Markdown."""
    lines = [
        "| β | participation | local epochs | method | F − F* at the end | rounds to "
        + " | rounds to ".join(f"{small:g}" for small in SMALL)
        + " |",
        "|---" * (5 + len(SMALL)) + "|",
    ]
    for cell, curve in curves.items():
        reached = [
            next((str(t) for t, gap in curve if gap <= small), "–") for small in SMALL
        ]
        row = [f"{cell.beta}", f"{cell.fraction:.0%}", f"{cell.epochs}", cell.method]
        row += [f"{max(curve[-1][1], 0):.1e}", *reached]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def draw(path: Path, curves: Mapping[Cell, Sequence[tuple[int, float]]]) -> None:
    """Draw distances by round: a row for each data set and participation."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [(beta, fraction) for beta in REGIMES for fraction in FRACTIONS]
    figure, axes = plt.subplots(
        len(rows), len(EPOCHS), figsize=(10, 11), sharex=True, sharey=True,
        constrained_layout=True,
    )  # fmt: skip
    for (beta, fraction), line in zip(rows, axes, strict=True):
        for epochs, ax in zip(EPOCHS, line, strict=True):
            for method in METHODS:
                curve = curves.get(Cell(beta, fraction, epochs, method))
                if curve:
                    rounds, values = zip(*curve, strict=True)
                    floor = np.maximum(values, 1e-12)
                    ax.semilogy(rounds, floor, label=method, lw=1.2)
            ax.set_title(f"β {beta}, {fraction:.0%}, epochs {epochs}", fontsize=9)
            ax.grid(alpha=0.3)
    next(ax for ax in axes.flat if ax.lines).legend(fontsize=7)
    for ax in axes[-1]:
        ax.set_xlabel("round")
    for ax in axes[:, 0]:
        ax.set_ylabel("F − F*")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def write(path: Path, runs: Path, curves: Mapping[Cell, Any]) -> None:
    """Write table, curves and figure next to each other."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "regimes.md").write_text(table(curves), "utf-8")
    rows: list[list[object]] = []
    for cell, curve in curves.items():
        digest = (runs / cell.name / "final" / "digest.txt").read_text().strip()
        rows += [[*cell, digest[:16], t, f"{gap:.4g}"] for t, gap in curve]
    write_csv(path / "regimes.csv", (*Cell._fields, "digest", "round", "gap"), rows)
    draw(path / "regimes.png", curves)


def main(words: Sequence[str] | None = None) -> None:
    """Train all that is missing, then write what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.regimes")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path, help="folder for the runs")
    parser.add_argument("--to", type=Path, default=Path("docs/results"))
    parser.add_argument("--ranks", type=int, default=0, help="MPI ranks of a run")
    args = parser.parse_args(words)
    data, runs = str(args.data.absolute()), args.out / "regimes"
    known = {beta: Objective(f"{data}/regimes-b{beta}") for beta in REGIMES}
    least = {beta: objective.minimum() for beta, objective in known.items()}
    curves = {}
    for cell in cells():
        run = runs / cell.name
        if train(configuration(cell, data), run, args.ranks):
            curves[cell] = gaps(run, known[cell.beta], least[cell.beta])
            print(f"{cell.name}: {curves[cell][-1][1]:.2e}", flush=True)
        else:
            print(f"{cell.name}: diverged", flush=True)
    write(args.to / "regimes", runs, curves)


if __name__ == "__main__":
    main()
