"""Quote values as words of a job script: for the shell, and for lines of sbatch.

Any value stays one word of its line.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fedapm_mpi.cluster.site import Site
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.utils.terminal import printable
from fedapm_mpi.utils.text import format_value

VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})", re.ASCII)
"""Variables that the shell of the job replaces."""

NAME = re.compile(r"\w[\w.+=,@:-]{0,99}")
"""Names of jobs, which are also part of file names."""


def check_values(values: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a value holds a line break or another control character.

    It could put a line of its own into a job script.
    """
    for what, value in values.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and printable(text) != text:
                msg = (
                    f"{what}: {format_value(text)} holds a line break or another "
                    "control character, which no line of a job script may hold"
                )
                raise ConfigError(msg)


def check_site(site: Site) -> None:
    """Raise `ConfigError` if a value of a site profile breaks its line.

    A line of `setup` may, since all of it is shell.
    """
    names = [field.name for field in fields(site) if field.name != "setup"]
    check_values({f"site profile, {name}": getattr(site, name) for name in names})


def check_name(name: str) -> str:
    """Return a job's name if it can be part of a file's; raise `ConfigError` if not."""
    if NAME.fullmatch(name) is None:
        msg = (
            f"--job-name {format_value(name)}: give a letter, digit or _ and then "
            "letters, digits and _ . + = , @ : - only, 100 in all at most"
        )
        raise ConfigError(msg)
    return name


def name_for(text: str) -> str:
    """Return a name for a job that is made from a file's."""
    return re.sub(r"^\W|[^\w.+=,@:-]", "_", text)[:100] or "job"


def shell_word(text: str) -> str:
    """Return a word in which the shell replaces ``$NAME``, ``${NAME}`` and ``~/``."""
    if text.startswith("~/"):
        return f"~/{shell_word(text[2:])}"
    if "$" not in text:
        return shlex.quote(text)
    parts, end = [], 0
    for found in VARIABLE.finditer(text):
        parts += [_in_quotes(text[end : found.start()]), found[0]]
        end = found.end()
    return f'"{"".join([*parts, _in_quotes(text[end:])])}"'


def _in_quotes(text: str) -> str:
    return "".join(f"\\{c}" if c in '"\\`$' else c for c in text)


def directive_word(text: str) -> str:
    """Return a word of a line ``#SBATCH``, where a backslash quotes a character."""
    return re.sub(r"""([\s"'\\#])""", r"\\\1", text)


def path_word(text: str) -> str:
    """Return a path that no program takes for an option."""
    return f"./{text}" if text.startswith("-") else text
