"""Scripts are written and handed to sbatch, whose words are passed on."""

import os
import stat

import pytest

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.submit import SubmitError, check_site, submit_script
from fedapm_mpi.errors import ConfigError


def install(folder, text):
    """Install an sbatch that runs a text of shell."""
    path = folder / "sbatch"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_script_is_kept_and_submitted(path, tmp_path):
    install(path, f'echo "$@" > {tmp_path}/words; echo "17;cluster"')
    script = tmp_path / "runs" / "a.sbatch"
    logs = tmp_path / "logs"
    assert submit_script("#!/bin/bash\n", script, str(logs), ["afterok:3"]) == "17"
    assert script.read_text() == "#!/bin/bash\n"
    assert logs.is_dir()
    assert (tmp_path / "words").read_text().split() == [
        "--parsable",
        "--dependency=afterok:3",
        "--kill-on-invalid-dep=yes",
        str(script),
    ]


def test_a_job_that_is_refused(path, tmp_path):
    install(path, "echo no such partition >&2; exit 1")
    with pytest.raises(SubmitError, match=r"SLURM refuses .*: no such partition"):
        submit_script("", tmp_path / "a.sbatch", "logs")


def test_there_is_no_sbatch(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch on the PATH"):
        submit_script("", tmp_path / "a.sbatch", "logs")


def test_the_environment_of_jobs_must_be_there(tmp_path):
    check_site(Site())
    check_site(Site(venv="$HOME/venv"))  # known in the job only
    with pytest.raises(ConfigError, match="venv: there is no "):
        check_site(Site(venv=str(tmp_path / "none")))
