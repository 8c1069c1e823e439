"""Parse command lines: flags and values in any order, errors in one sentence."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import did_you_mean
from fedapm_mpi.utils.kernels import KERNELS, NATIVE
from fedapm_mpi.utils.terminal import print_error
from fedapm_mpi.utils.text import format_value, truncate

NUMBER = re.compile(r"-\.?[0-9].*", re.DOTALL)
"""Values that begin with a dash: numbers."""

MAX_FLAG_LENGTH = 60
"""Characters of an unknown flag that are compared with those that are known."""

REST = (argparse.REMAINDER, argparse.PARSER)
"""Positional arguments after whose first word nothing belongs to this parser."""

HELP_FLAGS = ("-h", "--help")


_printed: set[tuple[str, str]] = set()
"""Old names that were already reported: a command line may be read twice."""


class Parser(argparse.ArgumentParser):
    """A parser that takes flags and values in any order.

    argparse fills all positional arguments from the first sequence of values, and
    refuses those that come after a flag; its `parse_intermixed_args` supports no
    subcommands, and lets ``--resume`` take a ``key=value``. So words are put in order
    first, and argparse does the rest. A flag has one value at most; one whose value is
    optional takes the next word only if it is accepted, see `optional_value`. Flags
    cannot be abbreviated.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)
        self.old_flags: dict[str, str] = {}
        """Old names of flags, which are read but not in the help, and the new ones."""
        self.old_actions: dict[str, str] = {}
        """Old names of commands below this one."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse words that `in_order` has put in order."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args(self.in_order(words), namespace)

    def error(self, message: str) -> NoReturn:
        """Raise `ConfigError` with the error and the command that prints help."""
        msg = f"{truncate(message, 300)} (see {self.prog} --help)"
        raise ConfigError(msg)

    def known_flags(self) -> list[str]:
        """Return all flags, but for those that ask for help."""
        return [flag for flag in self._option_string_actions if flag not in HELP_FLAGS]

    def in_order(self, words: Sequence[str]) -> list[str]:
        """Return all values, then all flags, each with its value in the same word.

        Where a command of its own begins, it and the rest come last, as they are.
        """
        rest = any(action.nargs in REST for action in self._get_positional_actions())
        flags: list[str] = []
        values: list[str] = []
        left = list(words)
        while left:
            word = left.pop(0)
            if word == "--" or not _is_flag(word):
                word = self._by_new_name(word, self.old_actions) if rest else word
                values += [] if word == "--" and not rest else [word]
                if word == "--" or rest:
                    values += left
                    break
            else:
                flags += self._flag(word, left)
        if rest:
            return [*flags, *values]
        if any(word.startswith("-") for word in values):
            return [*flags, "--", *values]
        return [*values, *flags]

    def _flag(self, word: str, left: list[str]) -> list[str]:
        """Return a flag with its value, which is taken from the remaining words."""
        name, equals, value = word.partition("=")
        name = self._by_new_name(name, self.old_flags)
        word = f"{name}{equals}{value}"
        action = self._option_string_actions.get(name)
        if action is None:
            short = self._option_string_actions.get(word[:2])
            if short is not None and short.nargs != 0 and word[1] != "-":
                return [word]  # such as -n5
            self.error(f"unknown option {format_value(name)}{self._hint(name)}")
        if equals or action.nargs == 0:
            return [word]
        if action.nargs == argparse.OPTIONAL:
            accepts = getattr(action, "accepts", None)
            if left and not _is_flag(left[0]) and (accepts is None or accepts(left[0])):
                return [f"{name}={left.pop(0)}"]
            return [word]
        if not left or _is_flag(left[0]):
            hint = f"; one that begins with a dash is written {name}=VALUE"
            self.error(f"{name} needs a value{hint if left else ''}")
        return [word, left.pop(0)] if len(name) == 2 else [f"{name}={left.pop(0)}"]

    def _by_new_name(self, word: str, renamed: Mapping[str, str]) -> str:
        """Return the new name of a flag or command; print it if the old one is used."""
        new = renamed.get(word)
        if new is None:
            return word
        if (self.prog, word) not in _printed:
            _printed.add((self.prog, word))
            print_error(f"{self.prog}: note: {word} is now {new}")
        return new

    def _hint(self, name: str) -> str:
        """Return the action that a flag belongs to, or the nearest flag."""
        for action in self._get_positional_actions():
            if isinstance(action, argparse._SubParsersAction):
                for verb, parser in action.choices.items():
                    if name in parser._option_string_actions:
                        return f"; it stands after {verb}"
        return did_you_mean(name[:MAX_FLAG_LENGTH], list(self._option_string_actions))


def _is_flag(word: str) -> bool:
    return len(word) > 1 and word.startswith("-") and not NUMBER.fullmatch(word)


def optional_value(
    action: argparse.Action, accepts: Callable[[str], bool]
) -> argparse.Action:
    """Let a flag whose value is optional take only the words that it accepts."""
    action.accepts = accepts  # type: ignore[attr-defined]
    return action


def add_experiment(parser: Parser) -> None:
    """Declare a configuration and the values that replace some of its own."""
    parser.add_argument(
        "config", nargs="?", metavar="CONFIG", help="YAML file of the experiment"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="replace a value, such as algorithm.rho=0.1",
    )


def check_folder(flag: str, path: Path | None) -> None:
    """Raise `ConfigError` if a path, or a parent of it, is not a folder.

    Parameters
    ----------
    flag
        The option that names it, for the message.
    path
        The path; `None` if it is not given.
    """
    for one in () if path is None else (path, *path.parents):
        try:
            if one.is_dir():
                return
            if one.exists() or one.is_symlink():
                msg = f"{flag}: {one} is not a folder; name another, or move it away"
                raise ConfigError(msg)
        except OSError as error:  # such as a name that is too long
            msg = f"{flag}: {truncate(str(path), 200)}: {error.strerror}"
            raise ConfigError(msg) from error


def is_override(word: str) -> bool:
    """Return whether a word replaces a value, as ``key.sub=value`` does.

    ``runs/seed=1`` is a path: a key has no slash.
    """
    key, equals, _ = word.partition("=")
    return bool(equals) and "/" not in key


def is_run(word: str) -> bool:
    """Return whether a word may name a run directory: not an override, not a file."""
    return not (is_override(word) or word.endswith((".yaml", ".yml")) or _is_file(word))


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):
        return False


def split_words(words: Sequence[str | None]) -> tuple[str | None, list[str]]:
    """Return the configuration among words, and all others, which are overrides."""
    given = [word for word in words if word is not None]
    named = [word for word in given if not is_override(word)]
    files = [word for word in given if _is_file(word)]
    config = next(iter([*files, *named]), None)
    if config is not None:
        given.remove(config)
    return config, given


def add_kernels(parser: Parser) -> None:
    """Declare which instructions the libraries of a command use."""
    parser.add_argument(
        "--kernels",
        choices=KERNELS,
        default=NATIVE,
        help="portable: the same bits on every x86-64 processor with AVX2 and FMA "
        "(default: native, the processor's fastest)",
    )


def kernels_of_experiment(args: argparse.Namespace) -> str:
    """Return the kernels of what `add_experiment` has declared; see `early_keys`."""
    from fedapm_mpi.config.early_keys import kernels_of

    return kernels_of(*split_words([args.config, *args.overrides]))


def asks_for_help(words: Sequence[str]) -> bool:
    """Return whether a command line only asks for help."""
    return any(word in HELP_FLAGS for word in _before_values(words))


def _before_values(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "--":
            return
        yield word
