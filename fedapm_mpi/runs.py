"""Read what a run left behind: its records, its clients' models, its digest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import safe_open
from torch import Tensor, nn

from .algorithms import ClientState, algorithms
from .building import build_model
from .config import Config
from .errors import DataError
from .manifest import read_manifest
from .state import run_digest, state_digest


def read_config(run: Path) -> Config:
    """Return the resolved configuration of a run."""
    path = run / "config.yaml"
    try:
        return Config.from_plain(yaml.safe_load(path.read_text("utf-8")))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        msg = f"cannot read {path} ({error}): {run} is not a run directory"
        raise DataError(msg) from error


def read_records(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's rounds."""
    path = run / "rounds.jsonl"
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        msg = f"cannot read {path} ({error}): {run} is not a run directory"
        raise DataError(msg) from error


def load_client_model(run: Path, client: int) -> nn.Module:
    """Return a client's personal model: its personal part and the shared part u.

    Parameters
    ----------
    run
        Directory of a finished run; its data set must still be where it was.
    client
        The client's id.

    Raises
    ------
    DataError
        If the run is not finished or has no such client.
    """
    model, initial, server = _final(run)
    config = read_config(run)
    m = len(server["seen"])
    if not 0 <= client < m:
        msg = f"{run} has clients 0 to {m - 1}, not {client}"
        raise DataError(msg)
    state = _states(run).get(client, initial)
    if config.evaluation.shared == "server":
        model.shared.copy_(server["rows"][0])
    else:
        model.shared.copy_(state["shared"])
    model.personal.copy_(state["personal"])
    none = torch.zeros(0)
    buffers = server["buffers"] if config.buffers == "mean" else state.get("buffers")
    model.write_buffers(
        none if buffers is None else buffers, state.get("counters", none)
    )
    module: nn.Module = model.module.eval()
    return module


def recompute_digest(run: Path) -> str:
    """Return the digest of the state in a run's ``final`` folder."""
    _, initial, server = _final(run)
    states = _states(run)
    untouched = state_digest(initial)
    rows = [
        state_digest(states[i]) if i in states else untouched
        for i in range(len(server["seen"]))
    ]
    table = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 32)
    return run_digest([server["rows"], server["buffers"]], table)


def _final(run: Path) -> tuple[Any, ClientState, dict[str, Tensor]]:
    """Return a run's model, a fresh client's state, and the server's final state."""
    config = read_config(run)
    manifest = read_manifest(config.data)
    options = {k: v for k, v in config.algorithm.items() if k != "name"}
    algorithm = algorithms.get(config.algorithm["name"])(**options)
    model = build_model(config, manifest, algorithm.sharing)
    initial = algorithm.new_client(model.shared.clone(), model.personal.clone())
    for name, values in zip(("buffers", "counters"), model.read_buffers(), strict=True):
        if values.numel():
            initial[name] = values
    path = run / "final" / "server.safetensors"
    if not path.exists():
        msg = f"{run} is not finished; go on with it by: fedapm train --resume {run}"
        raise DataError(msg)
    return model, initial, _tensors(path)


def _states(run: Path) -> dict[int, ClientState]:
    states: dict[int, ClientState] = {}
    for path in sorted((run / "final").glob("clients-*.safetensors")):
        for key, tensor in _tensors(path).items():
            client, _, name = key.partition("/")
            states.setdefault(int(client), {})[name] = tensor
    return states


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
