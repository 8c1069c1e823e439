"""Next-token prediction, against torch and a plain loop."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn.functional import cross_entropy

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.models import models
from fedapm_mpi.tasks import Targets
from fedapm_mpi.tasks.next_token import NextToken
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.rng import Purpose, torch_seed
from tests.support.data.leaf import windows, write_split
from tests.support.preparation import prepare
from tests.support.processes.cli_runs import rounds_of

VOCABULARY = Targets("dense", tuple("abcde"), mean=(0.2,) * 5, shape=(7,))
TASK = NextToken().for_targets(VOCABULARY)


def drawn(n=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    outputs = 3 * torch.randn(n, 7, 5, generator=generator).double()
    return outputs, torch.randint(-1, 5, (n, 7), generator=generator)


@pytest.mark.parametrize("seed", range(3))
def test_perplexity_and_accuracy_are_over_all_tokens_together(seed):
    outputs, targets = drawn(seed=seed)
    found = TASK.metrics(TASK.metric_inputs(outputs, targets).numpy(), np.empty((9, 0)))
    loss = cross_entropy(outputs.flatten(0, 1), targets.flatten(), ignore_index=-1)
    there = targets >= 0
    hits = outputs.argmax(-1)[there] == targets[there]
    assert_allclose(found["perplexity"], loss.exp(), rtol=1e-9)
    assert_allclose(found["accuracy"], hits.double().mean(), rtol=1e-9)
    assert list(found) == list(NextToken.higher_is_better)


def test_uniform_scores_are_as_perplexed_as_the_vocabulary_is_large():
    _, targets = drawn()
    rows = TASK.metric_inputs(torch.zeros(9, 7, 5).double(), targets)
    assert_allclose(TASK.metrics(rows.numpy(), None)["perplexity"], 5, rtol=1e-12)


def test_ends():
    outputs, targets = drawn()
    nothing = TASK.metric_inputs(outputs, torch.full_like(targets, -1))
    assert all(map(math.isnan, TASK.metrics(nothing.numpy(), None).values()))
    wrong = torch.full((1, 7, 5), 0.0).double()
    wrong[..., 0] = 1e6
    far = TASK.metric_inputs(wrong, torch.ones(1, 7, dtype=torch.int64))
    assert 1e300 < TASK.metrics(far.numpy(), None)["perplexity"] < math.inf
    outputs[0, 0, 0] = math.nan
    lost = TASK.metric_inputs(outputs, targets.clamp(min=0))
    with pytest.raises(TrainingError, match="not finite"):
        TASK.metrics(lost.numpy(), None)
    assert TASK.predict(outputs[1:]).shape == (8, TASK.prediction_size(5))


ROUNDS, LR = 4, 2.0


def test_shakespeare_by_roles_agrees_with_a_plain_loop(tmp_path):
    """FedAvg with whole batches is gradient descent on the weighted sum of losses."""
    source = write_split(tmp_path / "leaf", windows)
    prepare("shakespeare", source, tmp_path / "d", "predict=every")
    options = {"embedding": 4, "hidden": 6, "layers": 1}
    config = {
        "data": str(tmp_path / "d"),
        "model": {"name": "language-model", **options},
        "algorithm": {
            "name": "fedavg", "lr": LR, "batch_size": 0, "work": {"epochs": 1},
        },
        "task": "next-token",
        "rounds": ROUNDS,
        "seed": 3,
        "dtype": "float64",
        "evaluation": {"every": ROUNDS},
    }  # fmt: skip
    wanted = validate(config, "test")
    train(Serial(), wanted, directory=tmp_path / "run", progress="none")
    last = rounds_of(tmp_path / "run")[-1]

    manifest = read_manifest(tmp_path / "d")
    reader = ShardReader(manifest)
    clients = range(manifest.num_clients)
    parts = {
        split: [reader.read(client, split) for client in clients]
        for split in ("train", "test")
    }
    texts = {
        split: [
            (
                torch.from_numpy(one.inputs["text"]).long(),
                torch.from_numpy(one.target).long(),
            )
            for one in read
        ]
        for split, read in parts.items()
    }
    torch.manual_seed(torch_seed(3, Purpose.INITIAL_MODEL))
    model = models.get("language-model")(manifest.inputs, 81, **options).double()
    total = sum(len(x) for x, _ in texts["train"])
    for _ in range(ROUNDS):
        model.zero_grad()
        for x, y in texts["train"]:
            loss = cross_entropy(model(x).flatten(0, 1), y.flatten())
            (len(x) / total * loss).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= LR * parameter.grad
    with torch.no_grad():
        found = [
            math.exp(cross_entropy(model(x).flatten(0, 1), y.flatten()))
            for x, y in texts["test"]
        ]
        every = torch.cat([model(x) for x, _ in texts["test"]]).flatten(0, 1)
        y = torch.cat([y for _, y in texts["test"]]).flatten()
    assert last["perplexity"] == pytest.approx(np.mean(found), rel=1e-6)
    assert last["pooled"]["perplexity"] == pytest.approx(
        math.exp(cross_entropy(every, y)), rel=1e-6
    )
    assert last["perplexity"] < 70 < 81, "it has learned something"
