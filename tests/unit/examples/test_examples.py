"""The examples do what their docstrings say, with the commands that these print."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from fedapm_mpi.aggregators.transforms import UpdateContext
from fedapm_mpi.cli import main as cli
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models.base import models
from fedapm_mpi.optim.solver import LocalSolver, Pace
from fedapm_mpi.plugins.loader import load_plugin
from tests.support import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the examples, their data prepared."""
    path = tmp_path_factory.mktemp("examples")
    (path / "examples").symlink_to(EXAMPLES)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        run_module("my_source.py", "recordings")
        assert cli.main(command("my_source.py", "prepare")) == 0
    return path


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def command(file, name):
    """Return the words of the command ``fedapm NAME ...`` in a file's docstring."""
    text = (EXAMPLES / file).read_text("utf-8").replace("\\\n", " ")
    lines = (line.lstrip("# ") for line in text.splitlines())
    (found,) = (line for line in lines if line.startswith(f"fedapm {name}"))
    return shlex.split(found, comments=True)[1:]


def run_module(file, *words):
    code = compile((EXAMPLES / file).read_text("utf-8"), file, "exec")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [file, *words])
        exec(code, {"__name__": "__main__"})


def train(here, file, *words):
    run = here / "runs" / Path(file).stem
    assert cli.main([*command(file, "train"), "--run-dir", str(run), *words]) == 0
    lines = (run / "rounds.jsonl").read_text("utf-8").splitlines()
    return run, [json.loads(line) for line in lines]


def test_my_source(here):
    manifest = read_manifest("data/sensors")
    assert manifest.client_names == tuple(f"person-{k}" for k in range(6))
    assert manifest.classes == ("still", "walking", "running")
    assert [(spec.name, spec.shape) for spec in manifest.inputs] == [("features", (4,))]
    assert list(manifest.preparation["own_parts"]) == ["my_source.py"]
    parts = [ShardReader(manifest).read(1, split) for split in ("train", "test")]
    values = np.concatenate([part.inputs["features"] for part in parts])
    wanted = np.loadtxt("recordings/person-1.csv", delimiter=",")[:, :-1]
    assert sorted(values.tolist()) == sorted(wanted.astype(np.float32).tolist())


def test_my_source_with_an_option(here, capsys):
    words = command("my_source.py", "prepare")
    there = [word.replace("data/sensors", "data/other") for word in words]
    assert cli.main([*there, "scale=0.5"]) == 0
    files = [ShardReader(read_manifest(f"data/{one}")) for one in ("sensors", "other")]
    whole, half = (file.read(2, "train").inputs["features"] for file in files)
    assert np.array_equal(whole / 2, half)
    Path("empty").mkdir()
    assert cli.main([word.replace("recordings", "empty") for word in there]) == 3
    assert "empty holds no .csv file" in capsys.readouterr().err


def test_the_experiment(here):
    _, records = train(here, "sensors.yaml")
    assert records[-1]["accuracy"] > 0.8


def test_my_model(here):
    run, records = train(here, "my_model.py")
    assert records[-1]["loss"] < records[0]["loss"]
    assert "body.1.layers.2.weight" in (run / "split.csv").read_text("utf-8")


def test_my_task(here):
    _, records = train(here, "my_task.py")
    assert records[-1]["mae"] < records[0]["mae"]
    assert "accuracy" not in records[-1]


def test_my_logger(here):
    run, records = train(here, "my_logger.py")
    lines = (run / "metric.csv").read_text("utf-8").splitlines()
    evaluated = [one for one in records if "loss" in one]
    assert lines == ["round,loss"] + [f"{r['round']},{r['loss']}" for r in evaluated]


def test_my_algorithm(here):
    _, records = train(here, "my_algorithm.py")
    assert records[-1]["accuracy"] > 0.8
    assert "dual_relative" not in records[-1], "a field rho makes no ADMM method"
    assert records[-1].get("rho") is None


def test_my_algorithm_takes_the_steps_of_its_formula():
    sam = load_plugin("algorithm", f"{EXAMPLES}/my_algorithm.py:FedSAM")
    fedsam = sam(lr=0.1, rho=0.5, batch_size=0, work={"steps": 1})
    torch.manual_seed(0)
    a, u, v = torch.randn(5, 5), torch.randn(3), torch.randn(2)
    state = fedsam.new_client(u, v)
    problem = Quadratic(a, u, v)
    update = fedsam.client_step(u[None], state, problem, 0.25)
    w = torch.cat([u, v])
    g = a.T @ a @ w
    w = w - 0.1 * (a.T @ a @ (w + 0.5 * g / g.norm()))
    torch.testing.assert_close(torch.cat([state["shared"], state["personal"]]), w)
    torch.testing.assert_close(update[0].float(), 0.25 * (w[:3] - u))


class Quadratic:
    """The loss |a w|^2 / 2 of w = (shared, personal)."""

    def __init__(self, a, shared, personal):
        self.a, self.shared, self.personal = a, shared.clone(), personal.clone()
        self.solver = LocalSolver()

    def batches(self, phase, work, size):
        return range(work.steps)

    def gradient(self, part, batch):
        return self.a.T @ self.a @ torch.cat([self.shared, self.personal])


def test_my_transform(here):
    _, records = train(here, "my_transform.py")
    assert records[-1]["accuracy"] > 0.8


def test_my_transform_has_no_bias():
    kind = load_plugin("update transform", f"{EXAMPLES}/my_transform.py:Quantize")
    quantize = kind(levels=2)
    update = np.array([-1.0, -0.3, 0.0, 0.2, 0.9])
    rounds = [UpdateContext(0, t, np.array([0]), 1, 5) for t in range(4000)]
    sent = np.array([quantize.encode(update.copy(), {}, one) for one in rounds])
    assert set(sent.ravel().tolist()) == {-1.0, -0.5, 0.0, 0.5, 1.0}
    np.testing.assert_allclose(sent.mean(axis=0), update, atol=0.02)
    np.testing.assert_array_equal(quantize.encode(update, {}, rounds[7]), sent[7])


def test_my_optimizer(here):
    _, records = train(here, "my_optimizer.py")
    assert records[-1]["accuracy"] > 0.8


def test_my_optimizer_works_in_fedapm_as_well(here):
    name = f"{EXAMPLES}/my_optimizer.py:HeavyBall"
    config = yaml.safe_load(Path("examples/sensors.yaml").read_text("utf-8"))
    config["algorithm"] |= {"lr_personal": 0.3, "lr_shared": 0.3}
    config["optimizer"] = {"name": name, "state": "keep"}
    Path("momentum.yaml").write_text(yaml.safe_dump(config))
    assert cli.main(["train", "momentum.yaml", "--run-dir", "runs/momentum"]) == 0
    lines = Path("runs/momentum/rounds.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[-1])["accuracy"] > 0.8


def test_my_optimizer_takes_the_steps_of_its_formula():
    optimizer = load_plugin("optimizer", f"{EXAMPLES}/my_optimizer.py:HeavyBall")(
        beta=0.5
    )
    w, state = torch.zeros(2), optimizer.init(torch.zeros(2))
    for g in ([1.0, 2.0], [3.0, 0.0]):
        optimizer.step(w, torch.tensor(g), state, 0.1)
    torch.testing.assert_close(w, -0.1 * torch.tensor([1 + 3.5, 2 + 1.0]))


@pytest.fixture
def encoder():
    pytest.importorskip("transformers", reason="needs transformers (extra text)")
    return load_plugin("model", f"{EXAMPLES}/my_encoder.py:encoder")


WORDS = (SimpleNamespace(name="words", shape=(7,), ragged=True),)
SMALL = {"vocabulary": 30, "hidden_size": 16, "heads": 2}


def test_my_encoder(here, encoder):
    run_module("my_encoder.py", "sentences.npz")
    assert cli.main(command("my_encoder.py", "prepare")) == 0
    short = ["rounds=2", "schedule.warmup=1", "evaluation.every=1"]
    # BERT's own dropout, whose masks must be the same in both runs.
    short += ["algorithm.joint_work={steps: 4}", "model.base.settings={}"]
    run, records = train(here, "my_encoder.py", *short)
    assert records[-1]["loss"] < records[0]["loss"]
    digest = (run / "final" / "digest.txt").read_text("utf-8")
    run, _ = train(here, "my_encoder.py", *short, "--run-dir", "runs/encoder-again")
    again = Path("runs/encoder-again/final/digest.txt").read_text("utf-8")
    assert digest == again
    held = (run / "split.csv").read_text("utf-8")
    assert "encoder.encoder.layer.1.attention.self.query.lora_a" in held
    assert "encoder.embeddings.word_embeddings.weight" in held


def test_the_yaml_of_my_encoder_trains_adapters_embeddings_and_head(encoder):
    config = yaml.safe_load((EXAMPLES / "encoder.yaml").read_text("utf-8"))
    base = config["model"]["base"] | {"name": f"{EXAMPLES}/my_encoder.py:encoder"}
    options = config["model"] | {"base": base}
    build = models.get(options.pop("name"))
    model = build(WORDS, 16, **options)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    parts = {".".join(name.split(".")[:2]) for name in trained if "lora" not in name}
    assert parts == {"encoder.embeddings", "head.weight", "head.bias"}
    adapters = {name for name in trained if name.endswith("lora_b")}
    assert len(adapters) == 2 * 6  # query, key, value, output and two dense layers
    model(torch.ones(3, 7), lengths={"words": torch.tensor([7, 3, 1])}).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "electra"])
def test_my_encoder_ignores_what_follows_a_sentence(architecture, encoder):
    torch.manual_seed(0)
    pad = 1 if architecture == "roberta" else 0
    options = SMALL | {"architecture": architecture, "pad": pad}
    model = encoder(WORDS, 3, **options).eval()
    codes = torch.randint(2, 30, (4, 7)).float()
    lengths = torch.tensor([7, 4, 1, 0])
    together = model(codes, lengths={"words": lengths})
    for i, n in enumerate(lengths[:3]):
        states = model.encoder(input_ids=codes[i : i + 1, :n].long()).last_hidden_state
        alone = model.head(states[0].mean(0))
        torch.testing.assert_close(together[i], alone, rtol=1e-5, atol=1e-5)
    assert together[3].isfinite().all(), "a sentence without words"
    filled = codes.masked_fill(torch.arange(7) >= lengths[:, None], pad)
    torch.testing.assert_close(model(filled), together, rtol=1e-5, atol=1e-5)


def test_my_encoder_refuses_a_setting_that_the_architecture_lacks(encoder):
    with pytest.raises(ConfigError, match="bert has no setting 'hidden_dropout'"):
        encoder(WORDS, 3, settings={"hidden_dropout": 0.1})


def test_my_schedule(here):
    _, records = train(here, "my_schedule.py")
    assert records[-1]["accuracy"] > 0.8
    wave = [0.2, 0.6, 1.0, 0.6]
    expected = [*wave, *wave, *wave[:2]]
    for block in ("shared", "personal"):
        used = [record["lr_factor"][block] for record in records[1:]]
        assert used == pytest.approx(expected, rel=1e-15)


def test_my_schedule_changes_within_a_round_as_well():
    kind = load_plugin("schedule", f"{EXAMPLES}/my_schedule.py:Triangle")
    pace = Pace(kind(period=2, low=0.0), rounds=9, warmup=1.0, unit="step")
    steps = [pace.factor(t, k, 4) for t in (0, 1, 2) for k in range(4)]
    up, wave = [0.2, 0.4, 0.6, 0.8], [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    assert steps == pytest.approx(up + wave, abs=1e-15)


def test_python_api(here, capsys):
    run_module("python_api.py")
    first, _, second, _, error = capsys.readouterr().out.splitlines()[:5]
    words = ["examples/sensors.yaml", "rounds=5", "--progress", "none", "--run-dir"]
    for rho, line in (("0.1", first), ("1.0", second)):
        run = here / "runs" / f"rho-{rho}"
        assert cli.main(["train", *words, str(run), f"algorithm.rho={rho}"]) == 0
        digest = (run / "final" / "digest.txt").read_text("utf-8").strip()
        assert line.endswith(f"digest {digest}")
    assert error == "configuration:"


def test_every_example_is_listed():
    index = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"({path.name})" in index
