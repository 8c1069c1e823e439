"""Read what a run left behind: its records, its clients' models, its digest."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from safetensors import safe_open
from torch import Tensor, nn

from .algorithms import ClientState, algorithms
from .building import build_part
from .config import Config
from .cutting import first_clients
from .errors import DataError
from .faults import shortened
from .groups import Groups, build_groups
from .manifest import Manifest, read_manifest
from .problem import ClientProblem
from .registry import did_you_mean
from .samples import to_samples
from .shards import ShardReader
from .state import run_digest, state_digest
from .trust import require


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


def load_client_model(
    run: Path | str, client: int | str, *, trust: bool = False
) -> nn.Module:
    """Return a client's personal model, as the last evaluation of a run had it.

    That is its personal part and the shared part u, or what an algorithm such as Ditto
    or fine-tuning makes for its client; the latter trains again.

    Parameters
    ----------
    run
        Directory of a finished run; its data set must still be where it was.
    client
        The client: its number from 0 on, or its name in the data set. A string is a
        name first, and a number only if no client is called so.
    trust
        Whether to import own parts that the run names though it was not made here, on
        this account: that runs their code, with the options in its ``config.yaml``.

    Raises
    ------
    DataError
        If the run is not finished or has no such client.
    ConfigError
        If the run names own parts and is not trusted.
    """
    run = Path(run)
    final = _final(run, trusted=trust, way="trust=True")
    server = final.server
    client = find_client(run, final.manifest.client_names, client)
    group = final.groups.of(client)
    model = group.model
    state = _states(run).get(client, group.new_client(final.algorithm))
    none = torch.zeros(0)
    averaged = final.config.buffers == "mean"
    buffers = server["buffers"] if averaged else state.get("buffers")
    model.write_buffers(
        none if buffers is None else buffers, state.get("counters", none)
    )
    if hasattr(final.algorithm, "personalise"):
        _personalise(final, client, state, run)
    else:
        at_server = final.config.evaluation.shared == "server"
        u = final.groups.take(client, server["rows"][0])
        model.shared.copy_(u if at_server else state["shared"])
        model.personal.copy_(state["personal"])
    module: nn.Module = model.module.eval()
    return module


def find_client(run: Path, names: Sequence[str], client: object) -> int:
    """Return a client's number from its number or its name.

    Raises
    ------
    DataError
        If there is no such client; the message suggests the nearest name.
    """
    if isinstance(client, str):
        found = [number for number, name in enumerate(names) if name == client]
        if len(found) > 1:
            msg = f"{run}: {len(found)} clients are called {client!r}; give a number"
            raise DataError(msg)
        if found:
            return found[0]
        if not (client.isascii() and client.isdecimal()):
            near = did_you_mean(client, list(names))
            msg = f"{run} has no client called {shortened(client)!r}{near}"
            raise DataError(msg)
        number = int(client[:19])
    elif isinstance(client, int | np.integer) and not isinstance(client, bool):
        number = int(client)
    else:
        msg = (
            f"a client is given by its number or its name, not by "
            f"{shortened(repr(client))} of type {type(client).__name__}"
        )
        raise DataError(msg)
    if not 0 <= number < len(names):
        msg = f"{run} has clients 0 to {len(names) - 1}, not {shortened(str(client))}"
        raise DataError(msg)
    return number


def recompute_digest(run: Path | str, *, trust: bool = False) -> str:
    """Return the digest of the state in a run's ``final`` folder.

    With `trust`, own parts of a run that was not made here are imported.
    """
    run = Path(run)
    final = _final(run, trusted=trust, way="--trust")
    server, states = final.server, _states(run)
    groups = final.groups
    untouched = [state_digest(g.new_client(final.algorithm)) for g in groups.members]
    rows = [
        state_digest(states[i]) if i in states else untouched[g]
        for i, g in enumerate(groups.of_client.tolist())
    ]
    table = np.frombuffer(b"".join(rows), dtype=np.uint8).reshape(-1, 32)
    return run_digest([server["rows"], server["buffers"]], table)


class _Final(NamedTuple):
    """What a finished run left, beside its clients' states."""

    config: Config
    manifest: Manifest
    algorithm: Any
    groups: Groups
    server: dict[str, Tensor]


def _final(run: Path, *, trusted: bool, way: str) -> _Final:
    config = read_config(run)
    require(run, config.plain(), trusted=trusted, way=way)
    manifest = first_clients(read_manifest(config.data), config.clients)
    algorithm = build_part(algorithms, config.algorithm)
    groups = build_groups(config, manifest, algorithm.sharing)
    path = run / "final" / "server.safetensors"
    if not path.exists():
        msg = f"{run} is not finished; go on with it by: fedapm train --resume {run}"
        raise DataError(msg)
    return _Final(config, manifest, algorithm, groups, _tensors(path))


def _personalise(final: _Final, client: int, state: ClientState, run: Path) -> None:
    """Set the live model to what the algorithm makes for a client."""
    config, group = final.config, final.groups.of(client)
    reader = ShardReader(read_manifest(config.data))
    stored = reader.read(client, "train")
    reader.close()
    counts = final.manifest.counts["train"]
    m = final.manifest.num_clients
    uniform = config.client_weights == "uniform"
    problem = ClientProblem(
        group.model,
        to_samples(stored, group.inputs, group.model.dtype),
        seed=config.seed,
        round_index=read_records(run)[-1]["round"],
        client=client,
        purpose="personalise",
        bf16=config.precision == "bf16",
    )
    rows = final.server["rows"][: final.algorithm.rows]
    broadcast = final.groups.take(client, rows).to(group.model.dtype)
    weight = 1 / m if uniform else float(counts[client] / counts.sum())
    final.algorithm.personalise(broadcast, state, problem, weight)


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
