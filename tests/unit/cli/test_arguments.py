"""Command lines: any order, what is a value, what is refused, and how long it takes."""

import pytest

from fedapm_mpi.cli.arguments import Parser, is_override, is_run, split_words
from fedapm_mpi.cli.main import main, parser
from fedapm_mpi.errors import ConfigError


def parsed(*words):
    return vars(parser(words[:1]).parse_args(list(words)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            "train c.yaml a=1 b=2 --run-dir r --dry-run",
            "train --dry-run c.yaml --run-dir r a=1 b=2",
        ),
        ("train c.yaml a=1 --resume", "train c.yaml --resume a=1"),
        ("train c.yaml a=-1 --resume r", "train --resume r c.yaml a=-1"),
        ("train c.yaml --run-dir=r", "train --run-dir r c.yaml"),
        (
            "prepare arrays --from x --to y a=1 --force",
            "prepare --to y --force arrays --from x a=1",
        ),
        (
            "prepare arrays --from x --to y a=1 --force",
            "prepare arrays --from x --to y --force a=1",
        ),
        ("extract s --from x --to y a=1", "extract --to y s a=1 --from x"),
        (
            "slurm render c.yaml a=1 --nodes 2 --time 5",
            "slurm render --nodes 2 c.yaml --time 5 a=1",
        ),
        (
            "slurm submit c.yaml a=1 --after afterok:1 --report",
            "slurm submit --report --after afterok:1 c.yaml a=1",
        ),
        ("sweep run s.yaml -n 2", "sweep run -n 2 s.yaml"),
        ("sweep run s.yaml -n2", "sweep run --ranks 2 s.yaml"),
        ("scale run s.yaml --out d", "scale run --out d s.yaml"),
        ("scale fit d --predict 1,2", "scale fit --predict 1,2 d"),
        ("doctor c.yaml a=1 --size 2", "doctor --size 2 c.yaml a=1"),
        ("report a b --out d", "report a --out d b"),
        ("convergence r --metric a --metric b", "convergence --metric a r --metric b"),
        ("digest r --verify", "digest --verify r"),
        ("inspect d --plot p", "inspect --plot p d"),
        ("verify d --allow-repeats", "verify --allow-repeats d"),
        (
            "launch -n 2 --print train c --resume",
            "launch --print -n 2 train c --resume",
        ),
        ("launch -n 2 train c", "launch -n 2 -- train c"),
    ],
)
def test_flags_and_values_come_in_any_order(one, other):
    first, second = parsed(*one.split()), parsed(*other.split())
    for values in (first, second):
        # Of launch, and of --from and --to.
        if values.get("words", [])[:1] == ["--"]:
            del values["words"][0]
    assert first == second


def test_options_of_prepare_may_come_before_its_source():
    from fedapm_mpi.cli.prepare import request_of

    args = parser(["prepare"]).parse_args(
        ["prepare", "a.b=1", "--from", "x", "--force", "arrays", "--to", "y", "c=2"]
    )
    assert request_of(args, "prepare") == ("arrays", {"a": {"b": 1}, "c": 2})


def test_what_words_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1.yaml").write_text("")
    assert is_override("a.b=c/d")
    assert not is_override("a/b=c")
    assert not is_override("a")
    assert is_run("runs/a")
    assert not is_run("a.yml")
    assert not is_run("x" * 100_000 + "=1")
    assert is_run("x" * 100_000)
    assert split_words(["rounds=1", "seed=1.yaml"]) == ("seed=1.yaml", ["rounds=1"])
    assert split_words(["c.yaml", "d.yaml"]) == ("c.yaml", ["d.yaml"])
    assert split_words([None]) == (None, [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["x" * 100_000], "(100002 characters)"),
        ([], "name a COMMAND"),
        (["train", "--resme"], "unknown option '--resme'; did you mean '--resume'?"),
        (["train", "--res"], "unknown option '--res'; did you mean '--resume'?"),
        (["train", "-x"], "unknown option '-x'"),
        (["train", "--" + "x" * 100_000], "characters)"),
        (["train", "--run-dir"], "--run-dir needs a value (see fedapm train --help)"),
        (["train", "--run-dir", "--x"], "is written --run-dir=VALUE"),
        (["train", "--progress", "y"], "invalid choice: 'y'"),
        (["train", "--dry-run=yes"], "ignored explicit argument 'yes'"),
        (["slurm", "--nodes", "2", "render"], "'--nodes'; it stands after render"),
        (["slurm", "rendr"], "invalid choice: 'rendr'"),
        (["slurm", "render", "--nodes", "x"], "invalid int value: 'x'"),
        (["slurm", "render", "--nodes", "x" * 100_000], "characters)"),
        (["report"], "required: RUN (see fedapm report --help)"),
        (["digest", "a", "b"], "unrecognized arguments: b"),
        (["--resume"], "unknown option '--resume' (see fedapm --help)"),
        (["launch", "train", "--nope"], "unknown option '--nope'"),
        (
            ["launch", "train", "c", "-n", "3"],
            "unknown option '-n' (see fedapm train --help); options of launch stand "
            "before train",
        ),
    ],
)
def test_what_is_wrong_is_reported_in_one_short_line(capsys, words, expected):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert expected in printed.err
    assert printed.err.startswith("fedapm: error: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 500


def test_negative_numbers_are_values():
    found = Parser()
    found.add_argument("values", nargs="*")
    found.add_argument("--limit", type=float)
    args = found.parse_args(["-1", "--limit", "-2.5e3", "-.5", "--", "--x"])
    assert (args.values, args.limit) == (["-1", "-.5", "--x"], -2500.0)


def test_a_parser_raises_rather_than_ends_the_process():
    with pytest.raises(ConfigError, match="needs a value"):
        parsed("train", "--out")
