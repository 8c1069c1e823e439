"""Run ``fedapm train`` from a test, and read what it leaves."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support import PLUGINS, PROCESSES, ROOT
from tests.support.processes import mpiexec
from tests.support.processes.mpiexec import Ended

ABORTED = (70, 9)
"""Exit codes of a job that one rank ended: the rank's own or, where the launcher was
quicker to kill it than the rank to leave, that of the kill (MPICH; seldom)."""

TIMEOUT = 120.0
"""Seconds for a job that takes three on a free machine."""

FEDAPM: dict[str, Any] = {
    "name": "fedapm",
    "units": "weighted",
    "rho": 0.1,
    "sigma": 0.1,
    "lr_personal": 0.2,
    "lr_shared": 0.2,
    "batch_size": 8,
    "personal_work": {"epochs": 1},
    "shared_work": {"epochs": 1},
}
FEDSIM: dict[str, Any] = {"lr": 0.1, "batch_size": 8, "work": {"epochs": 2}}


def experiment(data: Path, **changes: Any) -> dict[str, Any]:
    """Return a small experiment, with some of its keys replaced."""
    return {
        "data": str(data),
        "model": {"name": "mlp", "hidden": [8]},
        "algorithm": FEDAPM,
        "split": {"personal": ["head.*"]},
        "participation": {"name": "random", "fraction": 0.5},
        "rounds": 3,
        "seed": 1,
        "evaluation": {"every": 2},
        "checkpoint": {"every": 2},
    } | changes


def small_har(data: Path) -> dict[str, Any]:
    """Return two rounds of a small model of two sensors, its encoders personal."""
    return {
        "data": str(data),
        "model": {"name": "har", "filters": 2, "hidden": 4, "attention": 4},
        "algorithm": {
            "name": "fedsim", "lr": 0.1, "batch_size": 4, "work": {"epochs": 1},
        },
        "split": {"personal": ["acc_conv.*", "gyro_conv.*"]},
        "rounds": 2,
    }  # fmt: skip


def write_config(path: Path, config: Mapping[str, Any]) -> Path:
    """Write a configuration as a user would, and return its path."""
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path


def user_path(**more: str) -> dict[str, str]:
    """Return variables under which ranks find the parts in ``user_parts``."""
    known = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PLUGINS), str(ROOT), known])),
        **more,
    }


def fedapm(*words: object) -> list[str]:
    """Return what follows ``python`` on a command line of ``fedapm``."""
    return ["-m", "fedapm_mpi", *map(str, words)]


def train(
    ranks: int | None,
    *words: object,
    timeout: float = TIMEOUT,
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> Ended:
    """Run ``fedapm train`` on some ranks; see `launching.run`."""
    return mpiexec.run(
        ranks, fedapm("train", *words), timeout=timeout, env=user_path(**(env or {})),
        **more,
    )  # fmt: skip


@dataclass(frozen=True)
class Done:
    """What one of several commands in one job came to; see `train_many`."""

    codes: list[int]
    """Exit code on every rank."""

    stdout: list[str]
    """Of every rank."""

    stderr: list[str]

    def __str__(self) -> str:
        return f"codes {self.codes}\n" + "\n".join(self.stdout + self.stderr)


def train_many(
    ranks: int,
    commands: Mapping[str, Sequence[object]],
    folder: Path,
    *,
    script: Path = PROCESSES / "command_batch.py",
) -> dict[str, Done]:
    """Run several ``fedapm`` commands one after the other in one job on some ranks.

    Loading libraries takes a rank two seconds, a toy run a tenth of one. No command may
    end in an abort, which would take the others with it.
    """
    folder.mkdir(parents=True)
    listed = {name: [str(word) for word in words] for name, words in commands.items()}
    (folder / "commands.json").write_text(json.dumps(listed))
    ended = mpiexec.run(
        ranks,
        [str(script), str(folder)],
        timeout=240,
        env=user_path(),
    )
    printed = [
        f"{path.name}:\n{path.read_text()}" for path in folder.glob("*.stderr.*")
    ]
    assert ended.returncode == 0, "\n".join([str(ended), *printed])
    done = {}
    for name in commands:
        texts = [
            [(folder / f"{name}.{kind}.{rank}").read_text() for rank in range(ranks)]
            for kind in ("code", "stdout", "stderr")
        ]
        done[name] = Done([int(text) for text in texts[0]], *texts[1:])
    return done


class Forks:
    """``fedapm`` commands of one process each, forked from one that has loaded all.

    For commands of which a cold start is not what is tested: that takes two seconds. A
    context manager.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self._process = subprocess.Popen(
            [sys.executable, str(PROCESSES / "forked_commands.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=mpiexec.environment(user_path()),
        )

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(
        self, *words: object, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Ended:
        """Run a command to its end."""
        self._number += 1
        files = [self._folder / f"{kind}.{self._number}" for kind in ("out", "err")]
        request = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "env": mpiexec.environment(user_path(**(env or {}))),
            "stdout": str(files[0]),
            "stderr": str(files[1]),
        }
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        begin = time.monotonic()
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
        answers, _, _ = select.select([stdout], [], [], TIMEOUT)
        assert answers, f"no answer to {request['words']} after {TIMEOUT} s"
        code = int(stdout.readline())
        texts = [file.read_text() for file in files]
        return Ended(code, *texts, time.monotonic() - begin, 0)


def digest_of(run: Path) -> str:
    """Return the digest that a finished run wrote."""
    return (run / "final" / "digest.txt").read_text().strip()


def rounds_of(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's rounds, but for times and check values."""
    lines = (run / "rounds.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records:
        del record["seconds"], record["wall_seconds"], record["check"]
    return records


def assert_same_run(run: Path, other: Path) -> None:
    """Check that two runs agree in every bit that is not a time."""
    assert digest_of(run) == digest_of(other)
    pairs = zip(rounds_of(run), rounds_of(other), strict=True)
    unequal = [
        f"round {a['round']}: {key} is {a.get(key)!r}, not {b.get(key)!r}"
        for a, b in pairs
        for key in {**a, **b}
        if a.get(key, "absent") != b.get(key, "absent")
    ]
    assert not unequal, "\n".join(unequal)
    for name in ("clients.csv", "summary.json", "split.csv"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
