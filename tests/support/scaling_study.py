"""Small scaling studies, and run directories as their points would leave them."""

import json

import yaml

from fedapm_mpi.studies.scaling.points import lay_out
from fedapm_mpi.studies.scaling.study import load
from tests.support.processes.cli_runs import experiment, write_config


def write_study(folder, data, **changes):
    """Write a study on toy data with its experiment, and return its path.

    With None for a key, the study has it not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder / "train.yaml", experiment(data, rounds=9))
    values = {
        "config": "train.yaml",
        "overrides": {"rounds": 5, "evaluation.every": 2},
        "strong": {"client_ranks": [1, 2, 4]},
        "weak": {"client_ranks": [1, 2, 4], "clients_per_rank": 2},
        "repetitions": 2,
        "warmup_rounds": 1,
    } | changes
    kept = {key: value for key, value in values.items() if value is not None}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def laid_out(folder, data, **changes):
    """Return a study and its points, laid out but not run."""
    study = load(write_study(folder, data, **changes))
    return study, lay_out(study, folder / "out")


def pretend(point, seconds=0.1, digest="d" * 64, clients=8):
    """Leave a run directory as if a point had been run.

    A round takes `seconds`, a tenth of which is broadcast, and half local work on the
    slowest rank, the mean being 0.8 of that; server and sum take a hundredth each. An
    evaluation takes as long again.
    """
    (point.run / "final").mkdir(parents=True)
    (point.run / "final" / "digest.txt").write_text(f"{digest}\n")
    every = point.config.evaluation.every
    with (point.run / "rounds.jsonl").open("w") as file:
        for t in range(point.config.rounds + 1):
            wall = seconds if t else None
            taken = {
                "broadcast": seconds / 10, "local": seconds / 2,
                "local_mean": 0.4 * seconds, "reduce": seconds / 100,
                "server": seconds / 100, "consensus": 0.0,
            }  # fmt: skip
            if t % every == 0:
                taken["evaluate"] = seconds
                wall = wall and 2 * seconds
            record = {"round": t, "seconds": taken, "wall_seconds": wall}
            if t:
                record |= {"num_participants": 4, "participants": "0-3"}
                record["bytes"] = {"broadcast": 224, "reduce": 448}
            file.write(json.dumps(record) + "\n")
    ranks = [
        {"rank": rank, "host": "here", "cores": [0, 1, 2]}
        for rank in range(point.ranks)
    ]
    origin = {
        "ranks": ranks,
        "nodes_that_share": [-1] + [0] * point.client_ranks,
        "clients_per_rank": [0, clients],
    }
    (point.run / "provenance.json").write_text(json.dumps(origin))
