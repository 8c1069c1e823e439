"""A server's state that does not fit the run is refused."""

import shutil
from hashlib import sha256

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import train
from tests.support.data.saved_checkpoints import edit
from tests.support.processes.cli_runs import experiment


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    """Return the configuration of six rounds, and an unbroken run of it."""
    root = tmp_path_factory.mktemp("damage")
    config = experiment(toy["features"], rounds=4, checkpoint={"every": 1, "keep": 3})
    train(Serial(), validate(config, "t"), directory=root / "four", progress="none")
    config |= {"rounds": 6}
    train(Serial(), validate(config, "t"), directory=root / "six", progress="none")
    return validate(config, "t"), root


def rewritten(directory, file, change):
    """Change a file of tensors, and everything that is known of it."""
    path = directory / file
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    description = directory / "checkpoint.json"

    def new_sum(note):
        entry = next(e for e in note["files"] if e["name"] == file)
        entry["bytes"] = path.stat().st_size
        entry["sha256"] = sha256(path.read_bytes()).hexdigest()

    edit(new_sum)(description)


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        (
            "server.safetensors",
            lambda t: t.update(rows=t["rows"][:, :-1].contiguous()),
            "'rows' is torch.float64",
        ),
        ("server.safetensors", lambda t: t.pop("rho"), "'rho' is absent"),
        (
            "server.safetensors",
            lambda t: t.update(seen=t["seen"].to(torch.uint8)),
            "'seen' is torch.uint8",
        ),
        (
            "clients-00000-00000.safetensors",
            lambda t: t.update({k: v.double() for k, v in t.items() if "dual" in k}),
            "'dual' is torch.float64",
        ),
    ],
)
def test_tensors_of_another_model_are_refused(runs, tmp_path, file, change, expected):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    directory = tmp_path / "run" / "checkpoints" / "round-000004"
    rewritten(directory, file, change)
    with pytest.raises(ConfigError, match="does not fit this model") as caught:
        train(Serial(), config, directory=tmp_path / "run", resume=True)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_quite_another_run_is_refused_in_few_lines(runs, tmp_path):
    config, root = runs
    shutil.copytree(root / "four", tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "round-000004" / "checkpoint.json"
    odd = {f"{k}{'x' * 1000}": "y" * 1000 for k in range(500)}
    edit(lambda note: note["identity"].update(odd))(path)
    with pytest.raises(ConfigError, match="another configuration") as caught:
        train(Serial(), config, directory=tmp_path / "run", resume=True)
    reported = str(caught.value)
    assert reported.endswith("and 480 more")
    assert len(reported) < 6000
