"""The interface for Python programs: results of the command line, exceptions."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import fedapm_mpi
from fedapm_mpi import (
    Config,
    TrainedRun,
    load_client_model,
    load_config,
    load_run,
    train,
)
from fedapm_mpi.cli.main import main
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import digest_of, experiment


@pytest.fixture
def values(toy):
    return experiment(toy["features"], rounds=3)


@pytest.fixture
def file(values, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_importing_the_names_is_lazy():
    code = (
        "import sys, fedapm_mpi\n"
        "assert {'train', 'load_run'} <= set(dir(fedapm_mpi))\n"
        "assert 'fedapm_mpi.api' not in sys.modules and 'torch' not in sys.modules\n"
        "from fedapm_mpi import train\n"
        "assert train is fedapm_mpi.api.train and 'mpi4py' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in fedapm_mpi.__all__:
        assert getattr(fedapm_mpi, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fedapm_mpi.trian  # noqa: B018


def test_a_run_has_the_digest_of_the_command_line(file, values, tmp_path, capfd):
    words = [str(file), "algorithm.rho=0.3", "--run-dir", str(tmp_path / "cli")]
    assert main(["train", *words]) == 0
    capfd.readouterr()
    expected = digest_of(tmp_path / "cli")
    changes = {
        "file": (file, {"algorithm": {"rho": 0.3}}),
        "text": (str(file), {"algorithm.rho": 0.3}),
        "mapping": (values, {"algorithm": {"rho": 0.3}}),
        "config": (load_config(file, algorithm={"rho": 0.3}), {}),
    }
    for name, (config, overrides) in changes.items():
        run = train(config, run_dir=tmp_path / name, **overrides)
        assert run == TrainedRun(tmp_path / name, expected, 0)
        assert run.finished
        assert digest_of(run.directory) == expected
    assert capfd.readouterr() == ("", "")


def test_output_as_on_the_command_line(file, tmp_path, capfd):
    run = train(file, out=tmp_path / "runs", progress="lines", reduction="exact")
    printed = capfd.readouterr().out
    assert "round 3/3" in printed
    assert f"digest {run.digest}" in printed
    assert run.directory.parent == tmp_path / "runs"


def test_a_run_can_be_resumed_and_read(file, tmp_path):
    train(file, run_dir=tmp_path / "run", rounds=2)
    run = train(file, run_dir=tmp_path / "run", resume=True)
    assert run.digest == train(file, run_dir=tmp_path / "unbroken").digest
    found = load_run(run.directory)
    assert [record["round"] for record in found.records] == [0, 1, 2, 3]
    model = load_client_model(run.directory, 0)
    assert isinstance(model, torch.nn.Module)


def test_a_configuration_is_checked_and_complete(file, tmp_path, monkeypatch):
    config = load_config(file, evaluation={"every": 2}, data=Path("here"))
    assert isinstance(config, Config)
    assert (config.evaluation.every, config.evaluation.split) == (2, "test")
    assert config.data == str(Path("here").absolute())
    assert load_config(config) == config
    assert load_config(config, rounds=9).rounds == 9


def test_errors_are_exceptions(file, tmp_path, capfd):
    with pytest.raises(ConfigError, match="round: unknown key; did you mean 'rounds'"):
        train(file, round=3)
    with pytest.raises(ConfigError, match="name the run to continue by run_dir"):
        train(file, resume=True)
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(DataError, match="not a run directory"):
        load_run(tmp_path)
    with pytest.raises(FedAPMError, match="manifest"):
        train(file, data=tmp_path / "none")
    assert capfd.readouterr() == ("", "")


def test_under_mpiexec_every_rank_gets_the_same(file, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from fedapm_mpi import train\n"
        "from fedapm_mpi.errors import ConfigError\n"
        "try:\n"
        "    train(sys.argv[1], round=3)\n"
        "except ConfigError:\n"
        "    sys.stdout.write('refused\\n')\n"
        "run = train(sys.argv[1], run_dir=sys.argv[2])\n"
        "sys.stdout.write(f'{run.digest} {run.finished}\\n')\n"
    )
    alone = train(file, run_dir=tmp_path / "alone")
    words = [str(program), str(file), str(tmp_path / "ranks")]
    ended = mpiexec.run(3, words, timeout=120)
    assert ended.returncode == 0, ended
    lines = sorted(ended.stdout.split("\n"))
    assert lines == ["", *[f"{alone.digest} True"] * 3, *["refused"] * 3]
