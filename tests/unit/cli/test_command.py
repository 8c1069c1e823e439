"""A command says what it needs; it is parsed once and runs on every rank."""

import argparse
from dataclasses import dataclass

import pytest

from fedapm_mpi.cli import docstrings
from fedapm_mpi.cli import main as cli
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.cli.command import (
    COMMANDS,
    Command,
    LocalCommand,
    load_command,
    parallel_commands,
)
from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import ConfigError


@dataclass
class Options:
    """What `Counting` is to do."""

    count: int


class Counting(Command[Options]):
    """A command from outside: it prints a number on every rank."""

    parallel = True
    parsed = 0

    def add_arguments(self, parser: Parser) -> None:
        parser.add_argument("count", type=int)

    def read(self, args: argparse.Namespace) -> Options | None:
        if args.count < 0:
            msg = "count must not be negative"
            raise ConfigError(msg)
        return Options(args.count) if args.count else None

    def run(self, comm, options: Options) -> int:
        assert isinstance(comm, Serial)
        print(options)  # noqa: T201
        return options.count


def started(word):
    command = Counting()

    def parse():
        command.parsed += 1
        parser = Parser(prog="count")
        command.add_arguments(parser)
        return parser.parse_args([word])

    return command.start([word], parse), command.parsed


def test_a_command_is_parsed_once_and_run(capsys):
    assert started("3") == (3, 1)
    assert capsys.readouterr().out == "Options(count=3)\n"


def test_a_command_with_nothing_left_to_do_is_not_run(capsys):
    assert started("0") == (0, 1)
    assert capsys.readouterr().out == ""


def test_an_error_in_what_is_read_ends_all_ranks_alike(capsys):
    assert started("-1") == (2, 1)
    assert capsys.readouterr().err == "fedapm: error: count must not be negative\n"


def test_every_command_is_one():
    parallel = ["train", "split", "prepare", "extract", "doctor", "evaluate"]
    assert parallel_commands() == parallel
    for name in COMMANDS:
        command = load_command(name)
        assert isinstance(command, Command)
        assert command.parallel != isinstance(command, LocalCommand)
        assert docstrings.constant(f"cli.{name}", "HELP")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "c.yaml"], False), (["train", "--dry-run"], True),
        (["slurm", "render"], True), (["slurm", "submit"], False),
        (["digest", "run"], True), (["report", "run"], True), (["sweep"], False),
    ],
)  # fmt: skip
def test_which_commands_fail_without_their_output(words, expected):
    assert load_command(words[0]).must_print(words[1:]) == expected


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (["rate", "r", "--figure", "drift"], "fedapm: note: rate is now convergence"),
        (["convergence", "r", "--figure", "x"], "--figure is now --metric"),
        (["inspect", "r", "--picture=x"], "--picture is now --plot"),
        (["report", "r", "--to", "x"], "--to is now --out"),
        (["scale", "model", "r"], "fedapm scale: note: model is now fit"),
        (["slurm", "render", "--at-once", "3"], "--at-once is now --max-concurrent"),
        (["launch", "--cores", "3"], "--cores is now --cpus-per-rank"),
        (["launch", "--gpu-binding", "x"], "--gpu-binding is now --gpu-bind"),
        (["doctor", "--folder", "x"], "--folder is now --run-dir"),
    ],
)
def test_old_names_are_read_and_the_new_ones_printed(
    words, note, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fedapm_mpi.cli.arguments._printed", set())
    assert cli.main(words) in (2, 3)  # there is no such file, and no option is unknown
    printed = capsys.readouterr().err
    assert f"{note}\n" in printed
    assert "unknown option" not in printed
    assert printed.count(note) == 1


def test_help_has_new_names_only(capsys):
    for name in COMMANDS:
        assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    for old in ("--figure", "--picture", "--at-once", "--gpu-binding", "--folder"):
        assert old not in shown


class Choosing(Counting):
    """A command that chooses kernels by its number."""

    def __init__(self):
        self.seen = []

    def kernels(self, args):
        self.seen.append("kernels")
        return "portable" if args.count > 1 else "native"

    def read(self, args):
        self.seen.append("read")
        return super().read(args)


@pytest.mark.parametrize("parallel", [True, False])
def test_kernels_are_chosen_before_anything_is_read(monkeypatch, capsys, parallel):
    command = Choosing()
    command.parallel = parallel
    used = []
    monkeypatch.setattr("fedapm_mpi.cli.command.kernels.use", used.append)
    assert command.start([], lambda: argparse.Namespace(count=3)) == 3
    assert command.seen == ["kernels", "read"]
    assert used == ["portable"]


@pytest.mark.parametrize("parallel", [True, False])
def test_kernels_that_cannot_be_had_end_a_command(monkeypatch, capsys, parallel):
    def refuse(wanted):
        msg = "not here"
        raise ConfigError(msg)

    command = Choosing()
    command.parallel = parallel
    monkeypatch.setattr("fedapm_mpi.cli.command.kernels.use", refuse)
    if parallel:
        assert command.start([], lambda: argparse.Namespace(count=3)) == 2
    else:
        with pytest.raises(ConfigError, match="not here"):
            command.start([], lambda: argparse.Namespace(count=3))
    assert command.seen == ["kernels"]
