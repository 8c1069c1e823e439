"""Run directories written by hand, as training leaves them."""

import csv
import json

from fedapm_mpi.tasks.classification import Classification

HIGHER_IS_BETTER = Classification().metric_set().higher_is_better

SHA = "a" * 64
CLIENTS = (0.5, 0.75, float("nan"), 1.0)
"""Accuracy of each client; one has no test sample."""


def write_run(
    directory,
    *,
    algorithm="fedapm",
    sha256=SHA,
    accuracies=(0.1, 0.5, 0.9, 0.8),
    rounds=3,
    clients=CLIENTS,
):
    """Write what training leaves, with an evaluation of every round from 0 on."""
    directory.mkdir(parents=True)
    config = {
        "data": "data/toy",
        "model": {"name": "mlp"},
        "algorithm": {"name": algorithm},
        "rounds": rounds,
        "split": None,
        "evaluation": {"every": 1, "shared_block": "server", "pooled": False},
        "checkpoint": {"every": 10, "keep": 2},
    }
    # YAML holds JSON.
    (directory / "config.yaml").write_text(json.dumps(config))
    manifest = {"directory": "data/toy", "dataset": "toy", "sha256": sha256}
    (directory / "provenance.json").write_text(json.dumps({"manifest": manifest}))
    records = [_record(t, value, algorithm) for t, value in enumerate(accuracies)]
    lines = [json.dumps(record) + "\n" for record in records]
    (directory / "rounds.jsonl").write_text("".join(lines))
    with (directory / "clients.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["client", "name", "train_samples", "test_samples", *HIGHER_IS_BETTER]
        )
        for i, value in enumerate(clients):
            cells = ["" if value != value else value] * len(HIGHER_IS_BETTER)
            writer.writerow([i, f"person {i}", 10, 5, *cells])
    return directory


def _record(t, accuracy, algorithm):
    record = {"round": t, "primal_residual": 0.0}
    if t:
        record |= {"train_loss": 1 - accuracy / 2, "rho": None, "dual_residual": None}
        if algorithm == "fedapm":
            record |= {"rho": 0.1, "dual_residual": 0.1**t, "primal_residual": 0.2**t}
    for metric, higher in HIGHER_IS_BETTER.items():
        value = accuracy if higher else 1 - accuracy
        record |= {
            metric: value,
            f"{metric}_std": 0.01,
            f"{metric}_worst_decile": value / 2,
        }
    return record
