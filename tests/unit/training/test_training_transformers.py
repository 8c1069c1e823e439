"""AdamW with warm-up trains a transformer with adapters to a training loss that plain
SGD does not reach in the same rounds, with the best of five step sizes.

Rare words and classes get small gradients, which SGD's one step size cannot suit
(Kunstner et al., 2024, arXiv:2402.19449).
"""

import numpy as np
import pytest

from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.data.writer import write_dataset
from fedapm_mpi.training.runner import train

TOPICS, OWN, LENGTH = 8, 8, 8
"""Topics, words of each, and words in a sentence."""
CLIENTS, TRAINED, TESTED = 3, 48, 8

ADAMW = {
    "optimizer": {"name": "adamw", "state": "keep"},
    "schedule": {"name": "linear", "warmup": 1, "final": 0.1},
    "clip": {"norm": 1.0},
}
STEPS = (0.03, 0.1, 0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Sentences half of whose words are of their topic, in dialects."""
    rng = np.random.default_rng(0)
    n = CLIENTS * (TRAINED + TESTED)
    by_topic, by_word = (1 / np.arange(1, k + 1) for k in (TOPICS, OWN))
    topic = rng.choice(TOPICS, n, p=by_topic / by_topic.sum())
    shape = (n, LENGTH)
    about = np.where(
        rng.random(shape) < 0.5, topic[:, None], rng.integers(TOPICS, size=shape)
    )
    codes = about * OWN + rng.choice(OWN, shape, p=by_word / by_word.sum())
    rows = np.arange(n).reshape(CLIENTS, -1)
    for own in rows:
        dialect = np.arange(TOPICS * OWN)
        moved = rng.choice(TOPICS * OWN, TOPICS * OWN // 4, replace=False)
        dialect[moved] = rng.permutation(moved)
        codes[own] = dialect[codes[own]]
    classes = [str(k) for k in range(TOPICS)]
    table = Table("words", [column("words", codes.astype(np.int16))], topic, classes)
    path = tmp_path_factory.mktemp("sentences")
    splits = {"train": list(rows[:, :TRAINED]), "test": list(rows[:, TRAINED:])}
    write_dataset(path, table, splits)
    return path


def train_loss(path, data, step, **solver):
    config = {
        "data": str(data),
        "rounds": 6,
        "seed": 1,
        "model": {
            "name": "lora",
            "base": {
                "name": "transformer", "vocabulary": {"words": TOPICS * OWN},
                "width": 16, "heads": 2, "layers": 2, "inner": 32, "dropout": 0.0,
            },
            "rank": 2,
            "layers": ["encoder.*"],
            "frozen": ["encoder.*"],
        },
        "split": {"personal": ["classifier.*"]},
        "algorithm": {
            "name": "fedapm", "block_order": "joint", "rho": 0.1, "sigma": 0.1,
            "lr_personal": step, "lr_shared": step, "batch_size": 8,
            "joint_work": {"epochs": 2},
        },
        "evaluation": {"every": 6},
        "checkpoint": {"every": 6},
    }  # fmt: skip
    config = validate(config | solver, "test")
    train(Serial(), config, directory=path, progress="none")
    return Run(path).records[-1]["train_loss"]


def test_adamw_reaches_a_training_loss_that_sgd_does_not(tmp_path, sentences):
    adamw = train_loss(tmp_path / "adamw", sentences, 0.03, **ADAMW)
    sgd = [train_loss(tmp_path / f"sgd-{step}", sentences, step) for step in STEPS]
    best = sgd.index(min(sgd))
    assert 0 < best < len(STEPS) - 1, "a step beyond those tried may be better"
    assert adamw < sgd[best], sgd
