"""The metrics of classification on one set of samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as sk

from fedapm_mpi.errors import ConfigError, DataError, TrainingError
from fedapm_mpi.tasks.classification import Classification, client_metrics, confusion


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def draw(seed, n=60, num_classes=5, present=None, dtype=np.float64):
    """Random labels of some classes, and probabilities that know a little of them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(present or num_classes, size=n)
    logits = rng.normal(size=(n, num_classes)) + np.eye(num_classes)[labels]
    return softmax(logits).astype(dtype), labels


def test_one_class_is_refused():
    with pytest.raises(ConfigError, match=r"1 class\(es\); it needs 2 or more"):
        Classification().output_size(1)
    assert Classification().output_size(2) == 2


def test_a_case_by_hand():
    probabilities = np.array(
        [
            [0.6, 0.3, 0.1],  # label 0, right
            [0.2, 0.7, 0.1],  # label 0, taken for 1
            [0.3, 0.5, 0.2],  # label 1, right
            [0.1, 0.2, 0.7],  # label 2, right
        ]
    )
    found = client_metrics(probabilities, np.array([0, 0, 1, 2]))
    # F1: class 0 has precision 1, recall 1/2; class 1 precision 1/2, recall 1.
    f1 = (2 * 2 / 3 + 1 * 2 / 3 + 1 * 1) / 4
    # Pairs won: class 0 {.6, .2} against {.3, .1}: 3 of 4; class 1 {.5} against
    # {.3, .7, .2}: 2 of 3; class 2 {.7} against {.1, .1, .2}: 3 of 3.
    auroc = (3 / 4 + 2 / 3 + 1) / 3
    assert_allclose(found, (3 / 4, f1, auroc, auroc))


def test_ties_count_half():
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    labels = np.array([0, 1, 0, 1])
    found = client_metrics(probabilities, labels)
    # Class 0 {.5, .9} against {.5, .2}: 3 wins and a tie of 4 pairs. Of equal
    # probabilities the first class is predicted.
    assert_allclose(found.auroc, 3.5 / 4)
    assert found.accuracy == 3 / 4
    blind = client_metrics(np.full((4, 2), 0.5), labels)
    assert_allclose(blind, (0.5, 0.5 * 2 / 3, 0.5, 0.5))


def test_a_perfect_predictor_of_three_classes_of_ten():
    labels = np.array([1, 4, 7, 7, 4, 1, 1])
    found = client_metrics(np.eye(10)[labels], labels)
    assert found[:3] == (1.0, 1.0, 1.0)
    assert found.auroc_absent_zero == pytest.approx(0.3)


def test_a_single_label_has_no_curve():
    probabilities, _ = draw(0, n=4, num_classes=3)
    probabilities[:3, 2] = 1.0
    probabilities[3, 2] = 0.0
    found = client_metrics(probabilities, np.full(4, 2))
    assert_allclose(found[:2], (3 / 4, 6 / 7))
    assert np.isnan(found.auroc)
    assert found.auroc_absent_zero == 0.0
    one_sample = client_metrics(np.array([[0.1, 0.9]]), np.array([0]))
    assert one_sample[:2] == (0.0, 0.0)


def test_no_samples_no_scores():
    found = client_metrics(np.empty((0, 3)), np.empty(0, dtype=np.int64))
    assert np.isnan(found).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn_used_differently(seed, dtype):
    probabilities, labels = draw(seed, dtype=dtype)
    labels[:5] = range(5)  # so that every class is there, as its own average needs
    found = client_metrics(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    report = sk.classification_report(
        labels, predicted, output_dict=True, zero_division=0.0
    )
    area = sk.roc_auc_score(
        labels, softmax(np.log(probabilities.astype(np.float64))), multi_class="ovr"
    )
    assert_allclose(found.accuracy, report["accuracy"])
    assert_allclose(found.f1, report["weighted avg"]["f1-score"])
    assert_allclose((found.auroc, found.auroc_absent_zero), area, rtol=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 6), st.booleans())
@settings(max_examples=200, deadline=None)
def test_agrees_with_scikit_learn_on_any_client(seed, n, num_classes, ties):
    probabilities, labels = draw(seed, n=n, num_classes=num_classes)
    if ties:
        probabilities = probabilities.round(1)
    found = client_metrics(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    f1 = sk.f1_score(labels, predicted, average="weighted", zero_division=0.0)
    assert_allclose(found.accuracy, sk.accuracy_score(labels, predicted))
    assert_allclose(found.f1, f1)
    present = [k for k in range(num_classes) if 0 < np.sum(labels == k) < n]
    areas = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in present]
    if areas:
        assert_allclose(found.auroc, np.mean(areas))
        assert_allclose(found.auroc_absent_zero, np.sum(areas) / num_classes)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_counting_pairs(seed):
    probabilities, labels = draw(seed, num_classes=7, present=[0, 3, 6])
    probabilities = probabilities.round(1)  # ties
    areas = []
    for k in (0, 3, 6):
        own, rest = probabilities[labels == k, k], probabilities[labels != k, k]
        ahead = own[:, None] - rest[None, :]
        areas.append(np.mean((ahead > 0) + 0.5 * (ahead == 0)))
    found = client_metrics(probabilities, labels)
    assert_allclose(found.auroc, np.mean(areas))
    assert_allclose(found.auroc_absent_zero, np.sum(areas) / 7)


def test_two_classes():
    probabilities, labels = draw(1, num_classes=2)
    found = client_metrics(probabilities, labels)
    area = sk.roc_auc_score(labels, probabilities[:, 1])
    assert_allclose((found.auroc, found.auroc_absent_zero), area)


def test_order_of_samples_does_not_matter():
    probabilities, labels = draw(2)
    order = np.random.default_rng(0).permutation(len(labels))
    found = client_metrics(probabilities[order], labels[order])
    assert_allclose(found, client_metrics(probabilities, labels))


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "message"),
    [
        (np.ones((3, 2)), np.zeros(4, int), DataError, r"\(3, 2\) .* \(4,\)"),
        (np.ones(3), np.zeros(3, int), DataError, r"needed are \(n, K\) and \(n,\)"),
        (np.ones((2, 3)), np.array([0, 3]), DataError, r"from 0 to 3, .* in \[0, 3\)"),
        (np.ones((2, 3)), np.array([-1, 1]), DataError, "from -1 to 1"),
        (np.full((2, 3), np.nan), np.zeros(2, int), TrainingError, "not finite"),
    ],
)
def test_refuses(probabilities, labels, error, message):
    with pytest.raises(error, match=message):
        client_metrics(probabilities, labels)


def test_confusion():
    labels = np.array([0, 0, 1, 2, 2, 2])
    predicted = np.array([0, 1, 1, 0, 2, 2])
    found = confusion(predicted, labels, 4)
    assert found.dtype == np.int64
    assert_array_equal(found, [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])
    assert_array_equal(found, sk.confusion_matrix(labels, predicted, labels=range(4)))
    halves = confusion(predicted[:3], labels[:3], 4) + confusion(
        predicted[3:], labels[3:], 4
    )
    assert_array_equal(found, halves)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_confusion_of_small_integers_does_not_overflow(dtype):
    labels = np.array([99, 99], dtype=dtype)
    found = confusion(labels, labels, 100)
    assert found[99, 99] == found.sum() == 2


def test_confusion_of_nothing():
    nothing = np.empty(0, dtype=np.int64)
    assert_array_equal(confusion(nothing, nothing, 3), np.zeros((3, 3)))


def test_models_that_distinguish_classes_are_not_reported():
    remarks = Classification().remarks
    summary = {"rounds": 3, "clients_with_classes": 7, "one_class_clients": 0}
    assert remarks(summary) == []
    one = summary | {"one_class_clients": 1, "one_class_most_samples": 10}
    (line,) = remarks(one)
    assert line.startswith("the models of 1 of 7 clients predict the same class")
    assert "unscaled" not in line  # one alone has another reason
    # Few samples have equal predictions by chance, unless those of many clients do.
    few = {"one_class_most_samples": 9}
    assert remarks(one | few) == []
    assert remarks(summary | few | {"one_class_clients": 7}) == []
    many = {"one_class_clients": 10, "clients_with_classes": 20}
    assert "unscaled" in remarks(summary | few | many)[0]
    assert remarks(summary | few | many | {"clients_with_classes": 21}) == []
