"""Metrics of torchmetrics, and of a user's own, in records of a run."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn import metrics as reference

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.metrics import metrics
from fedapm_mpi.tasks.ordinal import Ordinal
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import experiment, rounds_of

pytest.importorskip("torchmetrics", reason="needs the extra torchmetrics")

RNG = np.random.default_rng(0)


def made(name, kind, size, **options):
    return metrics.get("torchmetrics")(metric=name, **options).for_targets(kind, size)


def test_metrics_of_classes_agree_with_scikit_learn():
    p = RNG.dirichlet(np.ones(4), size=50).astype(np.float32)
    y = RNG.integers(0, 4, 50)
    found = p.argmax(axis=1)
    for name, value in (
        ("MulticlassCohenKappa", reference.cohen_kappa_score(y, found)),
        ("MulticlassMatthewsCorrCoef", reference.matthews_corrcoef(y, found)),
        ("MulticlassRecall", reference.balanced_accuracy_score(y, found)),
    ):
        metric = made(name, "class", 4)
        assert_allclose(metric.compute(p, y), value, rtol=1e-6)
        assert_allclose(metric.compute(p, y), value, rtol=1e-6), "it remembers nothing"
        assert metric.higher_is_better
        assert metric.label == name.removeprefix("Multiclass")[0].lower() + "".join(
            f"_{c.lower()}" if c.isupper() else c
            for c in name.removeprefix("Multiclass")[1:]
        )


def test_metrics_of_numbers_and_labels_agree_with_scikit_learn():
    y = RNG.normal(size=40)
    found = y + RNG.normal(size=40)
    metric = made("MeanAbsolutePercentageError", "real", 1)
    wanted = reference.mean_absolute_percentage_error(y, found)
    assert_allclose(metric.compute(found, y), wanted, rtol=1e-6)
    assert not metric.higher_is_better
    labels = RNG.integers(0, 2, (40, 3))
    p = RNG.random((40, 3))
    metric = made("MultilabelAveragePrecision", "binary", 3)
    wanted = reference.average_precision_score(labels, p, average="macro")
    assert_allclose(metric.compute(p, labels), wanted, rtol=1e-5)


def test_classes_of_one_client_need_not_be_all():
    p = RNG.dirichlet(np.ones(3), size=5)
    metric = made("MulticlassAUROC", "class", 3)
    assert np.isfinite(metric.compute(p, np.zeros(5, int)))


def test_ordinal_predictions_are_classes():
    above = np.array([[0.9, 0.8], [0.9, 0.1], [0.2, 0.1]])
    found, y = Ordinal().metric_pair(above, np.array([2, 1, 1]))
    metric = made("MulticlassAccuracy", "class", 3, options={"average": "micro"})
    assert_allclose(metric.compute(found, y), 2 / 3)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("MulticlasKappa", {}, "no metric 'MulticlasKappa' .*did you mean 'Multiclass"),
        ("MulticlassRecall", {"options": {"top": 3}}, "Unexpected keyword"),
        ("MulticlassStatScores", {}, "does not say which way .*set direction"),
    ],
)
def test_refuses(name, options, said):
    with pytest.raises(ConfigError, match=said):
        made(name, "class", 3, **options)


def run(toy, tmp_path, data="features", **changes):
    config = validate(experiment(toy[data], **changes), "test")
    train(Serial(), config, directory=tmp_path / "run", progress="none")
    return rounds_of(tmp_path / "run")[-1]


KAPPA = "torchmetrics:MulticlassCohenKappa"


def test_records_have_added_metrics_and_quantiles(toy, tmp_path):
    own = {"name": "user_parts:Surprise", "scale": 2.0}
    last = run(
        toy, tmp_path, metrics=[KAPPA, own], evaluation={"quantiles": [0.25, 0.5]}
    )
    header, *rows = (tmp_path / "run" / "clients.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    for key in ("cohen_kappa", "surprise", "accuracy"):
        values = [float(row[key]) for row in table if row[key]]
        assert_allclose(last[key], np.mean(values), rtol=1e-9)
        assert_allclose(last[f"{key}_q25"], np.quantile(values, 0.25), rtol=1e-9)
        assert_allclose(last[f"{key}_q50"], np.median(values), rtol=1e-9)
        assert last["pooled"][key] != last[key]
    worst = sorted(float(row["surprise"]) for row in table)
    assert_allclose(last["surprise_worst_decile"], worst[-1]), "lower is better"


@pytest.mark.parametrize(
    ("data", "task", "added", "said"),
    [
        ("features", "classification", [KAPPA, KAPPA], "'cohen_kappa' is there alr"),
        (
            "features",
            "classification",
            [{"name": KAPPA, "label": "accuracy"}],
            "'accuracy' is there already; give the added one another label",
        ),
        ("features", "classification", [{"name": KAPPA, "metric": "x"}], "leave metri"),
        (
            "features",
            "classification",
            ["torchmetrics:MeanSquaredError"],
            "metrics: metric 'MeanSquaredError'",
        ),
        (
            "features",
            "classification",
            [{"name": "torchmetrics:MulticlassRecall", "options": {"average": None}}],
            "more than one number; set options.average",
        ),
        ("features", "classification", ["torchmetric:x"], "torchmetric"),
        ("masks", "segmentation", [KAPPA], "sums of a sample's positions"),
        ("features", "classification", ["user_parts:towers"], "inputs"),
    ],
)
def test_what_cannot_be_added_is_refused_before_training(
    toy, tmp_path, data, task, added, said
):
    model = {"name": "unet", "width": 4} if data == "masks" else "logistic"
    with pytest.raises(FedAPMError, match=said):
        run(toy, tmp_path, data, task=task, metrics=added, model=model)


def test_quantiles_are_between_0_and_1(toy, tmp_path):
    for wrong in ([0.0], [1.5], [0.5, 0.5]):
        with pytest.raises(ConfigError, match=r"quantiles"):
            run(toy, tmp_path, evaluation={"quantiles": wrong})
