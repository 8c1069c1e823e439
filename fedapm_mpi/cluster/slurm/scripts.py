"""Fill the templates of job scripts; nothing is written or submitted."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.cluster.slurm.quoting import (
    check_site,
    check_values,
    directive_word,
    path_word,
    shell_word,
)
from fedapm_mpi.config.renamed_keys import RENAMED_KEYS
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.duration import parse_duration

TEMPLATES = ("train", "step")
"""Templates of the package: of jobs on many ranks, and on one."""


@dataclass(frozen=True, kw_only=True)
class JobResources:
    """The nodes and tasks of a job."""

    nodes: int
    tasks_per_node: int | None = None
    tasks: int | None = None
    """Tasks in all, if nodes have different numbers; `tasks_per_node` is then the
    maximum."""

    time: str

    @property
    def ranks(self) -> int:
        """The number of all tasks; by default one per node."""
        return self.tasks or self.nodes * (self.tasks_per_node or 1)


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """A run to train, or the cells of a sweep."""

    name: str
    """Name of the job."""

    config: str
    """Configuration; of a sweep the folder of its cells."""

    run_dir: str
    """Run directory, in which the shell replaces ``$SLURM_JOB_ID``."""

    overrides: Sequence[str] = ()
    array: str | None = None
    """Elements of the job array that trains a sweep, such as ``0,2-5``."""

    fresh: bool = False
    """Whether each start trains from the beginning, for timings, not resuming."""


def render_training(site: Site, shape: JobResources, run: TrainJob, out: str) -> str:
    """Return the script that trains.

    Parameters
    ----------
    site
        The cluster.
    shape
        The job's nodes and tasks.
    run
        What to train.
    out
        Folder of the jobs' output.

    Raises
    ------
    ConfigError
        If the template cannot be read or filled.
    """
    check_values(
        {
            "--job-name": run.name,
            "configuration": run.config,
            "--run-dir": run.run_dir,
            "overrides": run.overrides,
            "--time": shape.time,
            "--out": out,
        }
    )
    words = [shlex.quote(word) for word in run.overrides]
    if site.scratch is not None:
        words.append(f"stage_dir={shell_word(site.scratch)}")
    sweep = run.array is not None
    config = shlex.quote(path_word(run.config))
    ids = "%A_%a" if sweep else "%j"
    return _fill(
        site.template or "train",
        site,
        title=f"Train {run.config} {_describe(shape.ranks)}.",
        name=directive_word(run.name),
        nodes=shape.nodes,
        tasks=shape.tasks,
        tasks_per_node=_per_node(shape),
        time=shape.time,
        signal_seconds=min(site.signal_seconds, int(parse_duration(shape.time) / 4)),
        logs=out,
        output=_output(out, run.name, ids),
        array=run.array,
        cells=config if sweep else None,
        config=config,
        run_dir=shell_word(path_word(run.run_dir)),
        fresh=run.fresh,
        launch=" ".join(_launch_options(site, shape, requeue=not run.fresh)),
        words="".join(f" {word}" for word in words),
    )


def _describe(ranks: int) -> str:
    """Return a description of the tasks of a job."""
    if ranks == 1:
        return "on 1 task, which is the server and trains all clients as well"
    tasks = "1 task" if ranks == 2 else f"{ranks - 1} tasks"
    return f"on {ranks} tasks: 1 is the server, {tasks} train clients"


def _output(out: str, name: str, ids: str) -> str:
    """Return the file of a job's output, as sbatch has it; %% is a percent sign."""
    folder, name = out.replace("%", "%%"), name.replace("%", "%%")
    return directive_word(path_word(f"{folder}/{name}-{ids}.out"))


def render_step(
    site: Site,
    name: str,
    words: Sequence[str],
    time: str,
    out: str,
    *,
    variables: bool = False,
) -> str:
    """Return the script of a command on one task, such as prepare or report.

    Parameters
    ----------
    site
        The cluster.
    name
        Of the job.
    words
        The words after ``fedapm``.
    time
        Limit of the job.
    out
        Folder of the jobs' output.
    variables
        Whether the shell of the job replaces ``$NAME`` in the words.

    Raises
    ------
    ConfigError
        If the template cannot be filled.
    """
    check_values({"job": name, "words": list(words), "--time": time, "--out": out})
    quoted = shell_word if variables else shlex.quote
    return _fill(
        "step",
        site,
        title=f"fedapm {shlex.join(words)}",
        name=directive_word(name),
        time=time,
        logs=out,
        output=_output(out, name, "%j"),
        words=" ".join(map(quoted, words)),
    )


def template_text(name: str) -> str:
    """Return a template as it comes with the package."""
    return (Path(__file__).with_name(f"{name}.sbatch.j2")).read_text("utf-8")


def _fill(template: str, site: Site, **values: Any) -> str:
    check_site(site)
    check_values({"current folder": str(Path.cwd())})
    own = template not in TEMPLATES
    folders = [Path(template).parent] if own else []
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["sh"] = shell_word
    name = Path(template).name if own else f"{template}.sbatch.j2"
    try:
        return environment.get_template(name).render(
            site=site, options=_options(site), folder=str(Path.cwd()), **values
        )
    except jinja2.TemplateNotFound as error:
        msg = f"template {template}: there is no {error.name}"
        raise ConfigError(msg) from error
    except jinja2.TemplateError as error:
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        renamed = [
            f"; site.{key.path} is now site.{key.name}"
            for key in RENAMED_KEYS["site"]
            if f"'{key.path}'" in str(error)
        ]
        msg = f"template {template}{where}: {error}{''.join(renamed)}"
        raise ConfigError(msg) from error


def _options(site: Site) -> list[str]:
    """Return further options of sbatch."""
    named = {
        "account": site.account,
        "partition": site.partition,
        "qos": site.qos,
        "constraint": site.constraint,
        "mem": site.mem,
        "gres": f"gpu:{site.gpus_per_node}" if site.gpus_per_node else None,
    }
    given = [
        f"--{key}={directive_word(value)}"
        for key, value in named.items()
        if value is not None
    ]
    return given + site.options


def _per_node(shape: JobResources) -> int | None:
    """Return the maximum of tasks on a node; `None` leaves it to SLURM."""
    return shape.tasks_per_node or (None if shape.tasks else 1)


def _launch_options(site: Site, shape: JobResources, *, requeue: bool) -> list[str]:
    """Return the options of ``fedapm launch``."""
    words = [f"--ranks={shape.ranks}"]
    if shape.tasks is None:  # else the allocation says how many each node has
        words.append(f"--ranks-per-node={_per_node(shape)}")
    words.append(f"--cpus-per-rank={site.cpus_per_task}")
    binding = site.gpu_bind or ("none" if site.gpus_per_node else None)
    for option, value, default in (
        ("launcher", site.launcher, "auto"),
        ("mpi-type", site.mpi_type, "auto"),
        ("gpu-bind", binding, None),
        ("container", site.container, None),
    ):
        if value != default:
            words.append(f"--{option}={shlex.quote(str(value))}")
    return [*words, "--requeue"] if requeue else words
