"""Rounds of Flower's simulation, two clients at a time, each on a core.

python -m benchmarks.peers.with_flower FOLDER ROUNDS
"""

import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional as F

from benchmarks.peers import common
from benchmarks.workloads import BATCH, EPOCHS, LR

CORES = 2


def local_round(folder: str, client: int, net: common.Net) -> tuple[int, float]:
    """Train and test as the plain loop does; return samples and accuracy."""
    torch.set_num_threads(1)
    train, test = common.load(folder, client)
    x, y = train.tensors
    optimiser = torch.optim.SGD(net.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimiser.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    with torch.no_grad():
        parts = zip(*(torch.split(t, BATCH) for t in test.tensors), strict=True)
        right = sum(int((net(a).argmax(1) == b).sum()) for a, b in parts)
    return len(x), right / len(test)


class Timed(FedAvg):  # type: ignore[misc]
    """Notes when each round had ended."""

    def __init__(self, clients: int) -> None:
        super().__init__(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        self.ends: list[float] = []

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """Average, then look at the clock; a client that failed ends the run."""
        came = list(replies)
        if any(reply.has_error() for reply in came):
            msg = f"a client failed in round {server_round}"
            raise RuntimeError(msg)
        result = super().aggregate_train(server_round, came)
        self.ends.append(time.perf_counter())
        return result


def main() -> None:
    """Run; print when rounds ended."""
    folder, rounds = sys.argv[1], int(sys.argv[2])
    assignment: list[list[int]] = json.loads(
        Path(folder, "assignment.json").read_text()
    )
    clients = list(range(sum(map(len, assignment))))
    strategy = Timed(len(clients))
    client_app, server_app = ClientApp(), ServerApp()

    @client_app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        net = common.Net()
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        client = clients[int(context.node_config["partition-id"])]
        samples, accuracy = local_round(folder, client, net)
        content = RecordDict(
            {
                "arrays": ArrayRecord(net.state_dict()),
                "metrics": MetricRecord(
                    {"num-examples": samples, "accuracy": accuracy}
                ),
            }
        )
        return Message(content=content, reply_to=message)

    @server_app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Grid, context: Context) -> None:
        strategy.start(grid, ArrayRecord(common.Net().state_dict()), num_rounds=rounds)

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=len(clients),
        backend_config={
            "init_args": {"num_cpus": CORES},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    print("ends", json.dumps(strategy.ends), flush=True)


if __name__ == "__main__":
    main()
