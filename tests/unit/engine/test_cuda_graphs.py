"""Training on a GPU: the same on any number of ranks, and close to a processor's."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fedapm_mpi.algorithms import LocalBudget
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.device import open_device
from fedapm_mpi.engine.local_objective import LocalObjective
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.models.base import Stage
from fedapm_mpi.models.cnn import CNN
from fedapm_mpi.models.resnet18 import resnet18
from fedapm_mpi.training import runner
from fedapm_mpi.training.context import open_context
from tests.support.processes.cli_runs import (
    FEDAPM,
    digest_of,
    experiment,
    rounds_of,
    train,
    write_config,
)
from tests.support.processes.mpiexec import find_mpiexec

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
IMAGE = (3, 8, 8)


class Dropping(CNN):
    """A network that tells its stages and drops in one of them."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.drop = nn.Dropout(0.5)

    def forward(self, image):
        for stage in self.stages():
            image = stage.run(image)
        return image

    def stages(self):
        *first, last = super().stages()
        return [*first, Stage((self.drop,), self.drop), last]


def network(kind):
    torch.manual_seed(0)
    if kind == "resnet":
        spec = type("Spec", (), {"name": "image", "shape": IMAGE, "ragged": False})()
        return resnet18((spec,), 4, groups=None, width=8)
    options = {"channels": (4, 8), "hidden": 16}
    return (CNN if kind == "cnn" else Dropping)(IMAGE, False, 4, **options)


def trained(
    kind,
    device,
    *,
    recorded=True,
    bf16=False,
    phase="shared",
    poison=None,
    dtype=torch.float32,
):
    """Return parameters, buffers and loss after a phase of local work."""
    module = network(kind).to(dtype)
    model = PartitionedModel.from_patterns(module, personal=["fc*"])
    model.move(torch.device(device))
    if not recorded:
        model.graphs.run = lambda kind, body, sources, rows: body(
            [source.index_select(0, rows) for source in sources]
        )
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(35, *IMAGE, generator=generator)
    if poison is not None:
        x[poison] = float("inf")
    samples = Samples((x.to(dtype),), {}, torch.arange(35) % 4).to(model.device)
    p = LocalObjective(model, samples, seed=0, round_index=0, client=0, bf16=bf16)
    part = {"joint": "both"}.get(phase, phase)
    vectors = {"shared": [p.shared], "personal": [p.personal]}
    for batch in p.batches(phase, LocalBudget(epochs=3), 8):
        gradient = p.gradient(part, batch)
        start = 0
        for vector in vectors.get(phase, [p.shared, p.personal]):
            vector.sub_(gradient[start : start + len(vector)], alpha=0.05)
            start += len(vector)
    found = [p.shared, p.personal, *model.read_buffers()]
    return [t.cpu().clone() for t in found], p.loss_sum


@on_gpu
@pytest.mark.parametrize("phase", ["shared", "personal", "joint"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["cnn", "dropping", "resnet"])
def test_a_recorded_pass_gives_the_same_bits(kind, bf16, phase):
    open_device("cuda", 0, [0])
    one, loss = trained(kind, "cuda:0", phase=phase, bf16=bf16)
    two, again = trained(kind, "cuda:0", recorded=False, phase=phase, bf16=bf16)
    assert loss == again
    for left, right in zip(one, two, strict=True):
        assert torch.equal(left, right)


@on_gpu
@pytest.mark.parametrize("phase", ["shared", "personal", "joint"])
@pytest.mark.parametrize("kind", ["cnn", "resnet"])
def test_a_gpu_finds_what_a_processor_does(kind, phase):
    open_device("cuda", 0, [0])
    here, loss = trained(kind, "cpu", phase=phase, dtype=torch.float64)
    there, other = trained(kind, "cuda:0", phase=phase, dtype=torch.float64)
    assert other == pytest.approx(loss, rel=1e-9)
    for left, right in zip(here, there, strict=True):
        assert torch.allclose(left, right, rtol=1e-7, atol=1e-10)


@on_gpu
def test_a_loss_that_is_not_finite_ends_the_phase():
    open_device("cuda", 0, [0])
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) \(client 0, round 1"):
        trained("cnn", "cuda:0", poison=3)


DROPPING = "motion"
"""A GPU draws other numbers than a processor: this case is not compared with one."""


CASES = {
    "plain": {"algorithm": FEDAPM | {"personal_work": {"epochs": 3}}},
    "buffers": {
        "model": "user_parts:batch_norm",
        "split": {"personal": ["3.*"]},
        "buffers": "mean",
    },
    "criterion": {
        "algorithm": FEDAPM
        | {"shared_work": {"xi": 0.01, "decay": 0.5, "max_epochs": 3}},
        "diagnostics": {"dual_sum": True, "lagrangian": True, "blocks": True},
    },
    "ditto": {
        "algorithm": {
            "name": "ditto",
            "lr_global": 0.1,
            "lr_personal": 0.1,
            "lam": 0.1,
            "batch_size": 8,
            "global_work": {"epochs": 1},
            "personal_work": {"epochs": 1},
        },
        "split": None,
    },
    DROPPING: {
        "data": "motion",
        "model": {"name": "har", "filters": 2, "hidden": 4, "attention": 4}
        | {"dropout": 0.3},
        "split": {"personal": ["*_conv.*"]},
    },
    "ragged": {
        "data": "ragged",
        "model": {"name": "har", "filters": 2, "hidden": 4, "attention": 4}
        | {"dropout": 0.0},
        "split": {"personal": ["*_conv.*"]},
    },
}


@on_gpu
@pytest.mark.parametrize("case", CASES)
def test_the_same_bits_on_any_number_of_ranks(toy, tmp_path, case):
    changes = dict(CASES[case])
    data = toy[changes.pop("data", "features")]
    values = experiment(data, **changes, device="cuda", dtype="float64")
    config = write_config(tmp_path / "config.yaml", values)
    digests = set()
    counts = [None, 3, 4] if find_mpiexec()[0] else [None]
    for ranks in counts:
        run = tmp_path / f"on-{ranks}"
        ended = train(ranks, config, "--run-dir", run)
        assert ended.returncode == 0, ended
        digests.add(digest_of(run))
    assert len(digests) == 1
    saved = json.loads((run / "provenance.json").read_text())
    assert saved["ranks"][-1]["device"].startswith("cuda:0 ")
    if case == DROPPING:
        return
    ended = train(None, config, "--run-dir", tmp_path / "cpu", "device=cpu")
    assert ended.returncode == 0, ended
    there, here = rounds_of(run), rounds_of(tmp_path / "cpu")
    for ours, theirs in zip(there, here, strict=True):
        assert ours.get("loss") == pytest.approx(theirs.get("loss"), rel=1e-7)
    left = load_file(run / "final" / "shared.safetensors")
    right = load_file(tmp_path / "cpu" / "final" / "shared.safetensors")
    for name, tensor in left.items():
        assert torch.allclose(tensor, right[name], rtol=1e-6, atol=1e-9), name


@on_gpu
def test_states_stay_where_every_rank_can_reach_them(toy):
    values = experiment(toy["features"], device="cuda")
    session = open_context(validate(values, "test"), Serial())
    assert session.groups.members[0].model.device.type == "cuda"
    assert session.table.checkout(0)["shared"].device.type == "cpu"


def test_half_precision_trains_and_evaluates_in_single(toy, tmp_path):
    """On a processor too; the parameters stay in single precision."""
    losses = {}
    for precision in ("full", "bf16"):
        values = experiment(
            toy["features"], rounds=12, precision=precision, evaluation={"every": 12}
        )
        config, run = validate(values, "test"), tmp_path / precision
        assert runner.train(Serial(), config, directory=run, progress="none") == 0
        losses[precision] = rounds_of(tmp_path / precision)[-1]["loss"]
        final = load_file(tmp_path / precision / "final" / "shared.safetensors")
        assert all(t.dtype == torch.float32 for t in final.values())
    assert losses["bf16"] != losses["full"]
    assert losses["bf16"] == pytest.approx(losses["full"], rel=0.05)
