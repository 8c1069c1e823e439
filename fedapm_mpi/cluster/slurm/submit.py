"""Submit job scripts to SLURM, with the jobs that they depend on."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.quoting import path_word
from fedapm_mpi.errors import ConfigError, SubmitError
from fedapm_mpi.utils.atomic_io import write_error, write_text


def check_site(site: Site) -> None:
    """Raise `ConfigError` if jobs would have no Python; else they would fail at start.

    A path with a variable is known in the job only.
    """
    if "$" not in site.python and not Path(site.python).exists():
        msg = (
            f"venv: there is no {site.python}; name the environment of jobs in the "
            "site profile, or leave venv out for that of this command"
        )
        raise ConfigError(msg)


def submit_script(script: str, path: Path, logs: str, after: Sequence[str] = ()) -> str:
    """Write a job script, submit it, and return the job's number.

    Parameters
    ----------
    script
        Its text.
    path
        File to which it is written; SLURM makes a copy.
    logs
        Folder of the job's output, without which SLURM ends the job at once.
    after
        Dependencies, such as ``afterok:17``.

    Raises
    ------
    ConfigError
        If there is no sbatch.
    WriteError
        If the script cannot be written.
    SubmitError
        If SLURM refuses the job; the message is its own.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        msg = "there is no sbatch on the PATH; submit from a login node of the cluster"
        raise ConfigError(msg)
    for folder in (path.parent, Path(logs)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
    write_text(path, script)
    command = [sbatch, "--parsable"]
    if after:
        command += [f"--dependency={','.join(after)}", "--kill-on-invalid-dep=yes"]
    done = subprocess.run(
        [*command, path_word(str(path))], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        msg = f"SLURM refuses {path}: {done.stderr.strip() or done.stdout.strip()}"
        raise SubmitError(msg)
    return done.stdout.strip().partition(";")[0]
