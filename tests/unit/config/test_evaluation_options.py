"""Which models an evaluation looks at, and options of it that are refused."""

import pytest

from fedapm_mpi.config.evaluation_options import Evaluation, FineTune, Variant
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.config.schema import Config
from fedapm_mpi.optim.budget import LocalBudget
from fedapm_mpi.tracking.variants import VARIANTS
from tests.support.processes.cli_runs import write_config
from tests.support.valid_config import VALID, changed, errors_of

TUNING = {"block": "personal", "lr": 0.1, "work": {"steps": 3}}
TUNED = FineTune(block="personal", lr=0.1, work=LocalBudget(steps=3))
COMPARED = FineTune(block="all", lr=0.1, work=LocalBudget(epochs=1), compare=True)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [("", "server", False)]),
        ({"shared_block": "client"}, [("", "client", False)]),
        ({"shared_block": "client", "fine_tune": TUNED}, [("", "client", True)]),
        (
            {"shared_block": "both"},
            [("", "server", False), ("client_copy", "client", False)],
        ),
        (
            {"shared_block": "client", "fine_tune": COMPARED},
            [("", "client", True), ("before_fine_tuning", "client", False)],
        ),
        (
            {"shared_block": "both", "fine_tune": COMPARED},
            [
                ("", "server", True),
                ("client_copy", "client", True),
                ("before_fine_tuning", "server", False),
                ("client_copy_before_fine_tuning", "client", False),
            ],
        ),
    ],
)
def test_the_models_of_an_evaluation(options, wanted):
    found = Evaluation(**options).variants
    assert list(found) == [Variant(*one) for one in wanted]
    assert {one.name for one in found[1:]} <= VARIANTS.keys()


def test_options_survive_a_file():
    config = validate(changed(evaluation={"fine_tune": TUNING}), "test")
    assert config.evaluation.fine_tune == TUNED
    assert Config.from_plain(config.plain()) == config
    assert Config.from_plain(config.plain() | {"evaluation": {"every": 3}}) == (
        validate(changed(evaluation={"every": 3}), "test")
    )


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"block": "head"}, "evaluation.fine_tune.block: input should be 'personal'"),
        ({"lr": 0.0}, "evaluation.fine_tune.lr: input should be greater than 0"),
        ({"work": {"epochs": 1, "steps": 1}}, "fine_tune.work: give exactly one of"),
        (
            {"work": {"xi": 0.1, "decay": 0.5, "max_epochs": 2}},
            "fine_tune: work takes epochs or steps",
        ),
        ({"batch_size": -1}, "evaluation.fine_tune.batch_size: input should be great"),
        ({"weight_decay": -1.0}, "evaluation.fine_tune.weight_decay: input should"),
        ({"learning_rate": 1.0}, "evaluation.fine_tune.learning_rate: unknown key"),
        ({"compair": True}, "did you mean 'compare'"),
    ],
)
def test_what_is_refused(tuning, words):
    assert words in errors_of(changed(evaluation={"fine_tune": TUNING | tuning}))


@pytest.mark.parametrize("key", ["block", "lr", "work"])
def test_what_must_be_given(key):
    tuning = {name: TUNING[name] for name in TUNING if name != key}
    text = errors_of(changed(evaluation={"fine_tune": tuning}))
    assert f"evaluation.fine_tune.{key}: missing" in text


def test_a_length_replaces_another(tmp_path):
    path = write_config(
        tmp_path / "c.yaml", VALID | {"evaluation": {"fine_tune": TUNING}}
    )
    config = load(path, ["evaluation.fine_tune.work={epochs: 2}"])
    assert config.evaluation.fine_tune.work == LocalBudget(epochs=2)
    assert config.evaluation.fine_tune.lr == 0.1
    assert load(path, ["evaluation.fine_tune=null"]).evaluation.fine_tune is None
