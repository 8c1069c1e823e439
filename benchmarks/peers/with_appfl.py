"""Rounds of APPFL under mpiexec: rank 0 is its server, the others share the clients.

mpiexec -n 3 python -m benchmarks.peers.with_appfl ALGORITHM FOLDER ROUNDS MEMORY
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from appfl.agent import ClientAgent, ServerAgent
from appfl.comm.mpi import MPIClientCommunicator, MPIServerCommunicator
from appfl.config import ClientAgentConfig, ServerAgentConfig
from mpi4py import MPI
from omegaconf import OmegaConf

from benchmarks.peers import common
from benchmarks.workloads import BATCH, EPOCHS, LR

HERE = str(Path(common.__file__))


def client_configuration(algorithm: str, memory: bool) -> dict[str, Any]:
    """Return the configuration of its clients."""
    return {
        "train_configs": {
            "trainer": {"fedavg": "VanillaTrainer", "iiadmm": "IIADMMTrainer"}[
                algorithm
            ],
            "mode": "epoch",
            "num_local_epochs": EPOCHS,
            "optim": "SGD",
            "optim_args": {"lr": LR},
            "loss_fn": "CrossEntropyLoss",
            "metric_path": HERE,
            "metric_name": "accuracy",
            "do_validation": True,
            "train_batch_size": BATCH,
            "val_batch_size": BATCH,
            "optimize_memory": memory,
        },
        "model_configs": {"model_path": HERE, "model_name": "Net"},
    }


def serve(algorithm: str, clients: int, rounds: int, memory: bool) -> None:
    """Be its server."""
    own = {
        "num_clients": clients,
        "scheduler": "SyncScheduler",
        "scheduler_kwargs": {"same_init_model": True, "optimize_memory": memory},
        "aggregator": {"fedavg": "FedAvgAggregator", "iiadmm": "IIADMMAggregator"}[
            algorithm
        ],
        "aggregator_kwargs": {
            "client_weights_mode": "sample_size",
            "optimize_memory": memory,
        },
        "num_global_epochs": rounds,
        "optimize_memory": memory,
        "logging_output_dirname": "out",
        "device": "cpu",
    }
    config = ServerAgentConfig(
        client_configs=OmegaConf.create(client_configuration(algorithm, memory)),
        server_configs=OmegaConf.create(own),
    )
    MPIServerCommunicator(
        MPI.COMM_WORLD, ServerAgent(config), optimize_memory=memory
    ).serve()


def train(folder: str, clients: list[int], memory: bool) -> list[float]:
    """Be these clients; return when each round had ended."""
    names = [str(client) for client in clients]
    comm = MPIClientCommunicator(
        MPI.COMM_WORLD, server_rank=0, client_ids=names, optimize_memory=memory
    )
    configuration = comm.get_configuration()
    agents = {}
    for name, client in zip(names, clients, strict=True):
        own = ClientAgentConfig(
            data_configs=OmegaConf.create(
                {
                    "dataset_path": HERE,
                    "dataset_name": "load",
                    "dataset_kwargs": {"folder": folder, "client": client},
                }
            )
        )
        own.client_id = name
        own.optimize_memory = memory
        agents[name] = ClientAgent(own)
        agents[name].load_config(configuration)
    model = comm.get_global_model(init_model=True)
    sizes = {
        name: {"sample_size": agent.get_sample_size(), "sync": True}
        for name, agent in agents.items()
    }
    weights = comm.invoke_custom_action("set_sample_size", kwargs=sizes)
    for name, agent in agents.items():
        agent.load_parameters(model[0] if isinstance(model, tuple) else model)
        if hasattr(agent.trainer, "set_weight"):
            agent.trainer.set_weight(weights[name]["client_weight"])
    ends, status = [], "RUNNING"
    while status != "DONE":
        models, about = {}, {}
        for name, agent in agents.items():
            agent.train()
            sent = agent.get_parameters()
            models[name], about[name] = sent if isinstance(sent, tuple) else (sent, {})
        model, replies = comm.update_global_model(models, kwargs=about)
        ends.append(time.perf_counter())
        for agent in agents.values():
            agent.load_parameters(model)
        status = replies[names[0]]["status"]
    comm.invoke_custom_action("close_connection")
    return ends


def main() -> None:
    """Run; the first client rank prints when rounds ended."""
    algorithm, folder, rounds, memory = sys.argv[1:]
    torch.set_num_threads(1)
    assignment: list[list[int]] = json.loads(
        Path(folder, "assignment.json").read_text()
    )
    rank = MPI.COMM_WORLD.Get_rank()
    with tempfile.TemporaryDirectory() as logs:
        os.chdir(logs)
        if rank == 0:
            serve(algorithm, sum(map(len, assignment)), int(rounds), memory == "on")
        else:
            ends = train(folder, assignment[rank - 1], memory == "on")
            if rank == 1:
                print("ends", json.dumps(ends), flush=True)


if __name__ == "__main__":
    main()
