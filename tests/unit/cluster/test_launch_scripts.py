"""The launchers, as far as they can be tested without installing anything."""

import re
import shutil
import subprocess
import sys

import pytest
import yaml

from fedapm_mpi.config import loader as configfile
from tests.support import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = [*(LAUNCH / name for name in ("quickstart", "run", "test")), ROOT / ".ci/run"]
SOURCED = sorted(LAUNCH.glob("*.sh"))
JOBS = [LAUNCH / f"train.{kind}" for kind in ("sbatch", "pbs", "lsf")]
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


@pytest.mark.parametrize("script", SCRIPTS + SOURCED + JOBS, ids=lambda path: path.name)
def test_shell_accepts_the_script(script):
    done = run("bash", "-n", script)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck not installed")
@pytest.mark.parametrize("script", SCRIPTS + SOURCED + JOBS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    done = run("shellcheck", "-x", "-s", "bash", "-P", ROOT, script)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_can_be_started(script):
    assert script.stat().st_mode & 0o111


@pytest.mark.parametrize("script", SCRIPTS + SOURCED + JOBS, ids=lambda path: path.name)
def test_nothing_names_a_place_on_one_machine(script):
    text = script.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    words = re.findall(r"(?<![\w.$})\"])/[a-z][\w./-]+", "\n".join(lines))
    assert set(words) <= {"/dev/null", "/dev/shm"}  # as on every Linux
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


def test_an_environment_is_linked_to_that_of_another_mpi(tmp_path):
    """Its scripts are its own, and what it has already is kept."""
    old, new = tmp_path / ".venv", tmp_path / ".venv-openmpi"
    for folder in (old / "bin", old / "lib", new / "bin"):
        folder.mkdir(parents=True)
    for file in (old / "lib" / "module.py", old / "bin" / "tool"):
        file.write_bytes(b"\x7fELF")
    (old / "bin" / "script").write_text(f"#!{old}/bin/python\n")
    (old / ".made-by-launch").touch()
    for venv in (old, new):
        (venv / "bin" / "activate").write_text(str(venv))
    link = '. "$1"; python="$2" venv="$3" _venv_link_files "$4"'
    words = (LAUNCH / "venv.sh", sys.executable, new, old)
    done = run("bash", "-euc", link, "bash", *words)
    assert done.returncode == 0, done.stderr
    for name in ("lib/module.py", "bin/tool"):
        assert (new / name).samefile(old / name)
    assert (new / "bin" / "script").read_text() == f"#!{new}/bin/python\n"
    assert (new / "bin" / "activate").read_text() == str(new)
    assert not (new / ".made-by-launch").exists()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_configurations_are_valid(config):
    configfile.load(config)


def test_the_runs_of_the_quickstart_have_the_same_budget():
    """As many passes over the same data, by the same network, from the same start."""
    configs = [
        configfile.load(LAUNCH / f"watch{name}.yaml")
        for name in ("", "_fedavg_ft", "_local")
    ]
    for config in configs:
        keys = {"fedapm": "joint_work", "fedavg-ft": "work", "local": "work"}
        work = config.algorithm[keys[config.algorithm["name"]]]
        tuning = config.algorithm.get("fine_tune_work", {"epochs": 0})
        assert config.rounds * work["epochs"] + tuning["epochs"] == 60
        assert config.rounds % config.checkpoint.every == 0
        for key in ("data", "model", "participation", "seed", "dtype"):
            assert getattr(config, key) == getattr(configs[0], key), key


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


@pytest.fixture
def scheduler(tmp_path):
    """Return a function that runs a job script with programs which tell their words.

    Python ends with a code; qsub tells a job's number, and qstat its nodes.
    """
    programs = {
        "venv/bin/python": 'printf "%s\\n" "$@"; exit "${CODE:-0}"',
        "qsub": 'echo "$* run=$FEDAPM_RUN_DIR words=$WORDS" >>calls; echo 8.server',
        "qstat": 'echo "    Resource_List.select = 2:ncpus=4:mpiprocs=4"',
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(script, **variables):
        known = {"PATH": f"{tmp_path}:/usr/bin:/bin", "FEDAPM_VENV": "venv"}
        return subprocess.run(
            ["bash", LAUNCH / script],
            cwd=tmp_path,
            env={**known, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return start


@pytest.mark.parametrize(
    ("script", "job"),
    [
        ("train.pbs", {"PBS_JOBID": "7.server", "PBS_O_WORKDIR": "."}),
        ("train.lsf", {"LSB_JOBID": "7.server"}),
    ],
)
def test_other_schedulers_train(scheduler, script, job):
    done = scheduler(script, CONFIG="a b.yaml", WORDS="rounds=5 seed=2", **job)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "-m", "fedapm_mpi", "launch", "--cpus-per-rank", "1", "train", "a b.yaml",
        "rounds=5", "seed=2", "--run-dir", "runs/7.server", "--resume",
        "--walltime", "01:00:00",
    ]  # fmt: skip
    assert scheduler(script, CONFIG="a", CODE="70", **job).returncode == 70
    assert scheduler(script, CONFIG="a", CODE="75", **job).returncode == 75


def test_a_pbs_job_that_stops_is_submitted_again(scheduler, tmp_path):
    job = {"PBS_JOBID": "7.server", "PBS_O_WORKDIR": "."}
    done = scheduler("train.pbs", CONFIG="a", WORDS="x=[1,2]", CODE="75", **job)
    assert "continues as job 8.server" in done.stdout
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "-l select=2:ncpus=4:mpiprocs=4 -l walltime=01:00:00" in call
    assert call.endswith("launch/train.pbs run=runs/7.server words=x=[1,2]")
    scheduler("train.pbs", CONFIG="a", CODE="70", **job)
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("script", "variables", "expected"),
    [
        ("train.pbs", {}, "submit this: qsub"),
        ("train.pbs", {"PBS_JOBID": "7"}, "name a configuration"),
        ("train.lsf", {}, "submit this: CONFIG=FILE bsub"),
        ("train.lsf", {"LSB_JOBID": "7"}, "name a configuration"),
        (
            "train.lsf",
            {"LSB_JOBID": "7", "CONFIG": "a", "FEDAPM_VENV": "none"},
            "there is no none/bin/python",
        ),
    ],
)
def test_what_is_wrong_with_a_job_is_reported(scheduler, script, variables, expected):
    done = scheduler(script, **variables)
    assert done.returncode == 2
    assert expected in done.stderr


def sections(definition):
    """Return the sections of an Apptainer definition by name."""
    found = re.split(r"^%(\w+)$", definition.read_text(), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


def test_the_container_is_made_of_what_is_there():
    found = sections(LAUNCH / "fedapm.def")
    copied = [line.split()[0] for line in found["files"].strip().splitlines()]
    assert all((ROOT / name).exists() for name in copied)
    # All that setuptools reads, and the pins.
    assert {"pyproject.toml", "README.md", "LICENSE", "launch"} <= set(copied)
    extras = re.findall(r'"\.\[\{\{ mpi \}\},(\w+)\]"', found["post"])
    project = (ROOT / "pyproject.toml").read_text()
    for name in [*extras, "mpich", "openmpi"]:
        assert f"\n{name} = [" in project
    for name in ("post", "environment", "test"):
        done = run("bash", "-n", "-c", found[name])
        assert done.returncode == 0, done.stderr
