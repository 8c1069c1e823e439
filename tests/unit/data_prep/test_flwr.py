"""Partitions against those of flwr-datasets: the same distributions, not the same bits.

Runs where flwr-datasets is installed (pip install flwr-datasets); its dependencies are
too many to ask of everybody who runs the tests.
"""

import numpy as np
import pytest

from data_prep.label_skew import heterogeneity
from data_prep.partitioners import Pool, partitioners
from fedapm_mpi.utils.rng import generator

flwr = pytest.importorskip(
    "flwr_datasets.partitioner", reason="flwr-datasets is not installed"
)
datasets = pytest.importorskip("datasets")

M, CLASSES, EACH, SEEDS = 10, 6, 300, 40
LABELS = np.repeat(np.arange(CLASSES), EACH)


def theirs(make):
    """Return the class counts of each client, (m, classes)."""
    partitioner = make()
    partitioner.dataset = datasets.Dataset.from_dict({"label": LABELS.tolist()})
    parts = [partitioner.load_partition(i)["label"] for i in range(M)]
    return np.array([np.bincount(part, minlength=CLASSES) for part in parts])


def ours(name, seed, **options):
    pool = Pool(LABELS, None, None)
    parts = partitioners.get(name)(pool, M, generator(seed, "partition"), **options)
    return np.array([np.bincount(LABELS[rows], minlength=CLASSES) for rows in parts])


def figures(counts):
    sizes = counts.sum(1)
    skew = heterogeneity(counts)
    return [*skew, sizes.std() / sizes.mean(), sizes.max() / sizes.mean()]


def alike(one, other):
    """Means over seeds within four standard errors, of every figure."""
    one, other = np.array(one), np.array(other)
    error = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
    gap = np.abs(one.mean(0) - other.mean(0))
    assert (gap <= 4 * error + 1e-3).all(), (one.mean(0), other.mean(0), error)


@pytest.mark.parametrize("beta", [0.2, 1.0, 10.0])
def test_dirichlet(beta):
    found = [
        figures(ours("dirichlet", s, beta=beta, min_samples=1)) for s in range(SEEDS)
    ]
    known = [
        figures(
            theirs(
                lambda s=s: flwr.DirichletPartitioner(
                    M, "label", beta, min_partition_size=0, seed=s
                )
            )
        )
        for s in range(SEEDS)
    ]
    alike(found, known)


@pytest.mark.parametrize("beta", [0.3, 3.0])
def test_dirichlet_by_client(beta):
    """Of the mixes that are drawn, ours keeps as much as theirs or more.

    Samples are given once only, so neither has the whole spread of Dir(beta). In theirs
    clients draw in turn until classes run out, and the last get what is left.
    """
    mixes = np.random.default_rng(0).dirichlet(np.full(CLASSES, beta), 100_000)
    drawn = np.abs(mixes - 1 / CLASSES).sum(1).mean() / 2
    found, known = [], []
    for seed in range(SEEDS):
        counts = ours("dirichlet-client", seed, beta=beta)
        found.append(figures(counts)[:3])
        sizes = counts.sum(1).tolist()
        known.append(
            figures(
                theirs(
                    lambda sizes=sizes, seed=seed: flwr.InnerDirichletPartitioner(
                        sizes, "label", beta, seed=seed
                    )
                )
            )[:3]
        )
    (of_ours, of_theirs), error = (
        [np.mean(values, 0)[1] for values in (found, known)],
        np.std(found, 0)[1] / SEEDS**0.5,
    )
    assert of_theirs - 2 * error < of_ours < drawn + 2 * error
    assert abs(of_ours - drawn) < 0.03


def test_iid():
    found = [figures(ours("iid", s)) for s in range(SEEDS)]
    known = [figures(theirs(lambda: flwr.IidPartitioner(M))) for _ in range(2)]
    # Theirs cuts the data as they come, so only the sizes can be compared.
    assert np.allclose(np.array(found)[:, 3:], np.array(known)[0, 3:], atol=0.01)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_number_of_labels_a_client(labels):
    """Each of both gives every client exactly that many."""
    for seed in range(SEEDS):
        counts = theirs(
            lambda seed=seed: flwr.PathologicalPartitioner(
                M, "label", labels, class_assignment_mode="deterministic", seed=seed
            )
        )
        assert ((counts > 0).sum(1) == labels).all()
        assert ((ours("shards", seed, labels=labels) > 0).sum(1) == labels).all()
