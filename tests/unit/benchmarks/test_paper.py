"""The paper's experiments: every cell is a valid run, choices are made on val alone."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.paper import fair, published, runs
from benchmarks.paper import tables as gather
from benchmarks.paper.studies import METHODS, STUDIES, Setting, Study, configuration
from data_prep.pipeline import plan, prepare
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, TrainingError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train

TOY = Study(
    data="toy",
    clients=5,
    model={"name": "mlp", "hidden": [6]},
    personal=("head.*",),
    batch_size=8,
    passes=2,
    rounds=4,
    tuning_rounds=3,
    fraction=0.4,
    every=1,
    learning_rates=(0.1, 0.3),
    seeds=(1, 2),
    target=0.1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set with a part to validate on, and the folder that it is in."""
    root = tmp_path_factory.mktemp("paper")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = (x[:, 0] + 0.3 * rng.normal(size=300) > 0).astype(np.int64)
    np.savez(root / "toy.npz", x_features=x, y=y, client=np.arange(300) % 5)
    wanted = plan("arrays", {"val": 0.2, "test": 0.2})
    prepare(wanted, root / "toy.npz", root / "toy")
    return root


def setting_of(method):
    return Setting(0.1, method.coefficients[0] if method.coefficients else None)


def here(config, run, ranks=0):
    """Train in this process; a step size of 0.3 diverges for one method."""
    assert ranks == 0
    if config["algorithm"]["name"] == "fedsim" and config["algorithm"]["lr"] == 0.3:
        return False
    directory = run
    if not (run / "final").exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        train(Serial(), validate(config, "test"), directory=directory, progress="none")
    return True


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("study", STUDIES)
def test_every_cell_is_a_valid_configuration(study, name):
    method = METHODS[name]
    for tuning in (False, True):
        config = configuration(
            STUDIES[study], method, setting_of(method), data="x", seed=1, tuning=tuning
        )
        checked = validate(config, "test")
        assert checked.evaluation.split == ("val" if tuning else "test")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gets_the_same_number_of_passes_and_trials(name):
    study, method = STUDIES["watch"], METHODS[name]
    algorithm = method.algorithm(study, setting_of(method))
    works = [value for key, value in algorithm.items() if key.endswith("work")]
    assert sum(work["epochs"] for work in works) == study.passes
    trials = len(study.learning_rates) + len(method.coefficients[1:] or fair.FINER)
    assert trials == 5


@pytest.mark.parametrize("method", published.OWN)
def test_the_published_protocol_is_valid(method):
    config = validate(published.configuration(method, 4, 100, "x"), "test")
    assert config.evaluation.shared_block == "client"
    assert config.algorithm["weight_decay"] == 0.01


def test_a_study_from_its_trials_to_its_table(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fair, "train", here)
    monkeypatch.setitem(STUDIES, "toy", TOY)
    out = tmp_path / "runs"
    words = ["toy", "--data", str(data), "--out", str(out), "--methods"]
    fair.main([*words, "fedsim", "fedapm-joint", "local", "--jobs", "1"])
    gather.main([str(out), "--to", str(tmp_path / "results")])

    results = tmp_path / "results" / "fair"
    chosen = json.loads((results / "toy.json").read_text())
    assert set(chosen) == {"fedsim", "fedapm-joint", "local"}
    for method, found in chosen.items():
        assert len(found["trials"]) == 4
        best = max(trial["score"] for trial in found["trials"])
        own = [t["score"] for t in found["trials"] if t["lr"] == found["setting"]["lr"]
               and t["coefficient"] == found["setting"]["coefficient"]]  # fmt: skip
        assert own == [best], method
    first = {t["lr"]: t["score"] for t in chosen["local"]["trials"][:2]}
    finer = [t["lr"] for t in chosen["local"]["trials"][2:]]
    best = max(first, key=first.get)
    assert finer == pytest.approx([best * factor for factor in fair.FINER], rel=0.01)
    diverged = [t for t in chosen["fedsim"]["trials"] if t["lr"] == 0.3]
    assert [trial["score"] for trial in diverged] == [-1.0]

    rows = list(csv.DictReader((results / "toy.csv").read_text().splitlines()))
    assert [(row["method"], row["seed"]) for row in rows] == [
        (method, seed)
        for method in ("fedapm-joint", "fedsim", "local")
        for seed in "12"
    ]
    for row in rows:
        run = out / "fair" / "toy" / row["method"] / f"seed-{row['seed']}"
        assert row["digest"] == (run / "final" / "digest.txt").read_text().strip()
        summary = json.loads((run / "summary.json").read_text())
        assert float(row["accuracy_last"]) == pytest.approx(summary["accuracy"]["last"])
    assert "± " in (results / "toy.md").read_text("utf-8")
    assert (results / "toy.png").stat().st_size > 1000


def test_a_method_that_diverges_goes_back_to_smaller_steps(data, tmp_path, monkeypatch):
    """For all seeds alike, twice if need be; what it had trained is set aside."""

    def diverges(config, run, ranks=0):
        if run.name != "seed-2" or config["algorithm"]["lr"] < 0.1:
            return here(config, run, ranks)
        run.mkdir(parents=True, exist_ok=True)
        (run / "diverged.txt").write_text("the training loss is nan")
        return False

    monkeypatch.setattr(fair, "train", diverges)
    monkeypatch.setitem(STUDIES, "toy", replace(TOY, learning_rates=(0.2,)))
    monkeypatch.setattr(fair, "FINER", ())
    out = tmp_path / "runs"
    words = ["toy", "--data", str(data), "--out", str(out), "--methods", "local"]
    fair.main(words)
    gather.main([str(out), "--to", str(tmp_path)])
    chosen = json.loads((tmp_path / "fair" / "toy.json").read_text())["local"]
    assert chosen["setting"]["lr"] == 0.0664
    assert [tried["lr"] for tried in chosen["diverged"]] == [0.2, 0.115]
    table = (tmp_path / "fair" / "toy.md").read_text("utf-8")
    assert "| local | 0.0664 (0.2, 0.115 diverged) |  |" in table
    assert "| 2 |" in table
    own = out / "fair" / "toy" / "local"
    for seed in (1, 2):
        text = (own / f"seed-{seed}" / "config.yaml").read_text()
        assert "lr: 0.0664" in text
    assert "lr: 0.2" in (own / "diverged-lr0.2" / "seed-1" / "config.yaml").read_text()
    assert (own / "diverged-lr0.115" / "seed-2" / "diverged.txt").exists()
    before = (own / "seed-1" / "final" / "digest.txt").stat().st_mtime_ns
    fair.main(words)
    assert (own / "seed-1" / "final" / "digest.txt").stat().st_mtime_ns == before
    assert json.loads((own / "chosen.json").read_text()) == chosen


def test_a_run_that_cannot_start_says_why(tmp_path):
    values = {"data": str(tmp_path / "nothing"), "model": "logistic"}
    with pytest.raises(SystemExit, match=r"ended with 3(.|\n)*not a finished data set"):
        runs.train(values | {"algorithm": "local"}, tmp_path / "run")


def test_a_method_is_in_the_table_once_all_its_seeds_are(data, tmp_path, monkeypatch):
    def fails_once(config, run, ranks=0):
        if run.name == "seed-2" and config["algorithm"]["name"] == "fedsim":
            msg = "the machine went down"
            raise RuntimeError(msg)
        return here(config, run, ranks)

    monkeypatch.setattr(fair, "train", fails_once)
    monkeypatch.setitem(STUDIES, "toy", TOY)
    out = tmp_path / "runs"
    words = ["toy", "--data", str(data), "--out", str(out), "--methods"]
    with pytest.raises(RuntimeError):
        fair.main([*words, "local", "fedsim"])
    gather.main([str(out), "--to", str(tmp_path)])
    table = (tmp_path / "fair" / "toy.md").read_text("utf-8")
    assert "| local |" in table
    assert "fedsim" not in table
    assert set(json.loads((tmp_path / "fair" / "toy.json").read_text())) == {"local"}
    monkeypatch.setattr(fair, "train", here)
    fair.main([*words, "fedsim"])
    gather.main([str(out), "--to", str(tmp_path)])
    assert "| fedsim |" in (tmp_path / "fair" / "toy.md").read_text("utf-8")


def test_one_cell_again_has_the_digest_of_the_table(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fair, "train", here)
    monkeypatch.setitem(STUDIES, "toy", TOY)
    words = ["toy", "--data", str(data), "--methods", "local", "--out"]
    fair.main([*words, str(tmp_path / "a")])
    gather.main([str(tmp_path / "a"), "--to", str(tmp_path / "results")])
    settings = str(tmp_path / "results" / "fair" / "toy.json")
    fair.main([*words, str(tmp_path / "b"), "--seed", "2", "--chosen", settings])
    digests = [
        (tmp_path / x / "fair/toy/local/seed-2/final/digest.txt").read_text()
        for x in "ab"
    ]
    assert digests[0] == digests[1]
    assert not list((tmp_path / "b").rglob("trial-*"))


# Evaluating on the validation part -------------------------------------------------


def test_evaluation_looks_at_the_part_that_is_asked_for(data, tmp_path):
    method = METHODS["local"]
    config = configuration(TOY, method, setting_of(method), data=str(data), seed=1)
    found = {}
    for split in ("test", "val", "train"):
        values = dict(config) | {"evaluation": {"every": 4, "split": split}}
        run = tmp_path / split
        train(Serial(), validate(values, "test"), directory=run, progress="none")
        found[split] = json.loads((run / "summary.json").read_text())
        digests = {(tmp_path / s / "final/digest.txt").read_text() for s in found}
        assert len(digests) == 1
    assert len({summary["loss"]["last"] for summary in found.values()}) == 3


def test_a_part_that_is_not_there_is_refused(data, toy):
    method = METHODS["local"]
    config = configuration(TOY, method, setting_of(method), data=str(data), seed=1)
    values = dict(config) | {
        "data": str(toy["features"]), "evaluation": {"split": "val"},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="has no val samples; prepare it again"):
        open_context(validate(values, "test"), Serial())


def test_whose_model_is_evaluated_can_not_be_asked_of_ditto(data):
    method = METHODS["ditto"]
    config = configuration(TOY, method, setting_of(method), data=str(data), seed=1)
    values = dict(config) | {"evaluation": {"shared_block": "client"}}
    with pytest.raises(ConfigError, match="ditto evaluates the models that it makes"):
        open_context(validate(values, "test"), Serial())


def test_a_run_that_diverges_says_so(data, tmp_path):
    """The words by which a trial is distinguished from a run that failed otherwise."""
    method = METHODS["local"]
    config = configuration(
        replace(TOY, rounds=30), method, Setting(1e6), data=str(data), seed=1
    )
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(
            Serial(),
            validate(config, "test"),
            directory=tmp_path / "run",
            progress="none",
        )
