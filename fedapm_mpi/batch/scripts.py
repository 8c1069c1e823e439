"""Fill the templates of job scripts. Writes and submits nothing."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ..errors import ConfigError
from ..site import Site
from ..stopping import seconds_in

TEMPLATES = ("train", "step")
"""Those that come with the package: of jobs on many ranks, and on one."""

SHELL_PATH = "/$-_.,=+@%:~"
"""What may stand in a path beside letters and digits and need no quotes; ``$`` is to be
replaced by the shell."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The nodes and tasks of a job."""

    nodes: int
    tasks_per_node: int | None = None
    tasks: int | None = None
    """How many in all, where nodes have unequal numbers; `tasks_per_node` is then the
    most of any."""

    time: str

    @property
    def ranks(self) -> int:
        """All tasks; one a node unless told otherwise."""
        return self.tasks or self.nodes * (self.tasks_per_node or 1)


@dataclass(frozen=True, kw_only=True)
class Training:
    """A run to train, or the cells of a sweep."""

    name: str
    """Of the job."""

    config: str
    """Configuration; of a sweep the folder of its cells."""

    run_dir: str
    """Run directory, in which the shell replaces ``$SLURM_JOB_ID``."""

    overrides: Sequence[str] = ()
    array: str | None = None
    """Elements of the job array that trains a sweep, such as ``0,2-5``."""

    fresh: bool = False
    """Whether each start begins anew, for timings; else a run goes on where it was."""


def render_training(site: Site, shape: Shape, run: Training, out: str) -> str:
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
        Folder of what jobs print.

    Raises
    ------
    ConfigError
        If the template cannot be read or filled.
    """
    words = [shlex.quote(word) for word in run.overrides]
    if site.scratch is not None:
        words.append(f"stage={_path(site.scratch)}")
    sweep = run.array is not None
    ids = "%A_%a" if sweep else "%j"
    return _fill(
        site.template or "train",
        site,
        title=f"Train {run.config} on {shape.ranks} tasks: 1 server, the others train.",
        name=run.name,
        nodes=shape.nodes,
        tasks=shape.tasks,
        tasks_per_node=_per_node(shape),
        time=shape.time,
        signal_seconds=min(site.signal_seconds, int(seconds_in(shape.time) / 4)),
        logs=out,
        output=f"{out}/{run.name}-{ids}.out",
        array=run.array,
        cells=_path(run.config) if sweep else None,
        config=_path(run.config),
        run_dir=_path(run.run_dir),
        fresh=run.fresh,
        launch=" ".join(_launch_options(site, shape, requeue=not run.fresh)),
        words="".join(f" {word}" for word in words),
    )


def render_step(
    site: Site, name: str, words: Sequence[str], time: str, out: str
) -> str:
    """Return the script of a command on one task, such as prepare or report.

    Raises
    ------
    ConfigError
        If the template cannot be filled.
    """
    return _fill(
        "step",
        site,
        title=f"fedapm {shlex.join(words)}",
        name=name,
        time=time,
        logs=out,
        output=f"{out}/{name}-%j.out",
        words=" ".join(_path(word) for word in words),
    )


def template_text(name: str) -> str:
    """Return a template as it comes with the package."""
    return (Path(__file__).with_name(f"{name}.sbatch.j2")).read_text("utf-8")


def _fill(template: str, site: Site, **values: Any) -> str:
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
    environment.filters["sh"] = _path
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
        msg = f"template {template}{where}: {error}"
        raise ConfigError(msg) from error


def _options(site: Site) -> list[str]:
    """Return further options of sbatch."""
    named = {
        "account": site.account,
        "partition": site.partition,
        "qos": site.qos,
        "constraint": site.constraint,
        "mem": site.memory,
        "gres": f"gpu:{site.gpus_per_node}" if site.gpus_per_node else None,
    }
    given = [f"--{key}={value}" for key, value in named.items() if value is not None]
    return given + site.options


def _per_node(shape: Shape) -> int | None:
    """Return the most tasks of a node; `None` leaves it to SLURM."""
    return shape.tasks_per_node or (None if shape.tasks else 1)


def _launch_options(site: Site, shape: Shape, *, requeue: bool) -> list[str]:
    """Return what ``fedapm launch`` is told."""
    words = [f"--ranks={shape.ranks}"]
    if shape.tasks is None:  # else the allocation says how many each node has
        words.append(f"--ranks-per-node={_per_node(shape)}")
    words.append(f"--cores={site.cores}")
    binding = site.gpu_binding or ("none" if site.gpus_per_node else None)
    for option, value, default in (
        ("launcher", site.launcher, "auto"),
        ("mpi-type", site.mpi_type, "auto"),
        ("gpu-binding", binding, None),
        ("container", site.container, None),
    ):
        if value != default:
            words.append(f"--{option}={shlex.quote(str(value))}")
    return [*words, "--requeue"] if requeue else words


def _path(text: str) -> str:
    """Return a word for the shell, which may replace variables in it."""
    if all(c.isalnum() or c in SHELL_PATH for c in text):
        return f'"{text}"' if "$" in text else text
    escaped = "".join(f"\\{c}" if c in '"\\`' else c for c in text)
    return f'"{escaped}"'
