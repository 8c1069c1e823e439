"""Reading a run that another user sent runs no code, and a changed part is noticed."""

import io
import json
import shutil
import stat
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fedapm_mpi.analysis.client_model import (
    load_client_model,
    recompute_digest,
)
from fedapm_mpi.analysis.comparison import read_runs
from fedapm_mpi.cli import main as cli
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training import trust
from tests.support.own_files import PLAIN, here, write  # noqa: F401
from tests.support.processes.cli_runs import FEDSIM, digest_of, experiment
from tests.unit.training.test_upgrade import of_old

CANARY = "open('canary', 'w').close()\n"
HELPER = "RATE = 1\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the folder of a user's state."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def fedapm(*words):
    return cli.main([str(word) for word in words])


def configure(toy, path="config.yaml", **changes):
    values = experiment(
        toy["features"],
        model="./own.py:plain",
        split=None,
        algorithm={"name": "fedavg", **FEDSIM},
    )
    Path(path).write_text(yaml.safe_dump({**values, **changes}))
    return path


@pytest.fixture
def made(toy, here, home):  # noqa: F811
    """Make a run with an own part here; return its directory."""
    write("own.py", "import own_helper\n" + PLAIN)
    write("own_helper.py", HELPER)
    assert fedapm("train", configure(toy), "rounds=1", "--run-dir", "run") == 0
    return Path("run")


@pytest.fixture
def sent(made):
    """Return a run that another user made, whose part leaves a canary."""
    shutil.copytree(made, "sent")
    values = yaml.safe_load(Path("sent/config.yaml").read_text())
    values["model"] = {"name": "spy:plain", "hidden": 8}
    Path("sent/config.yaml").write_text(yaml.safe_dump(values))
    write("spy.py", CANARY + PLAIN)
    return Path("sent")


def no_code_ran():
    return not Path("canary").exists() and "spy" not in sys.modules


def test_the_key_and_the_mark(made, home):
    key = home / "fedapm" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32
    note = json.loads((made / "own_parts.json").read_text())
    assert note["own_parts"] == [f"{Path.cwd()}/own.py:plain"]
    assert note["mark"] not in key.read_bytes().hex()
    values = yaml.safe_load((made / "config.yaml").read_text())
    assert trust.made_here(made, values)
    values["model"]["hidden"] = 9
    assert not trust.made_here(made, values)


def test_runs_without_own_parts_bear_no_mark(toy, home, tmp_path):
    path = configure(toy, tmp_path / "built-in.yaml", model="mlp")
    assert fedapm("train", path, "rounds=1", "--run-dir", tmp_path / "run") == 0
    assert not (tmp_path / "run" / "own_parts.json").exists()
    assert not home.exists()
    assert fedapm("digest", tmp_path / "run", "--verify") == 0


def test_what_was_made_here_is_read_without_a_question(made, capsys):
    assert fedapm("digest", made, "--verify") == 0
    assert fedapm("train", "--resume", made, "rounds=2") == 0
    assert isinstance(load_client_model(made, 0), torch.nn.Module)
    assert "trust" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["digest", "sent", "--verify"],
        ["train", "--resume", "sent"],
        ["train", "--resume", "sent", "rounds=5"],
        ["train", "--run-dir", "sent", "--resume"],
    ],
)
def test_what_was_sent_is_refused(sent, words, capsys):
    assert fedapm(*words) == 2
    printed = capsys.readouterr().err
    assert "sent names custom code (spy:plain) and is not marked as a run" in printed
    assert "add --trust" in printed
    assert no_code_ran()


def test_models_of_what_was_sent(sent):
    with pytest.raises(ConfigError, match="add trust=True"):
        load_client_model(sent, 0)
    assert no_code_ran()
    load_client_model(str(sent), 0, trust=True)
    assert Path("canary").exists()


def test_reading_commands_import_nothing(sent, toy, capsys):
    shutil.copytree("sent", "runs/sent")
    assert [run.algorithm for run in read_runs([Path("run"), Path("sent")])]
    assert fedapm("digest", "sent") == 0
    # Without a name, every run in the folder is looked at.
    assert fedapm("train", "config.yaml", "--resume") == 2
    assert "no run of this experiment in runs" in capsys.readouterr().err
    # Its checkpoint is of my experiment, and goes on with the parts that I name.
    assert fedapm("train", "config.yaml", "rounds=2", "--resume", "sent") == 0
    assert no_code_ran()


@pytest.mark.parametrize(
    "hidden",
    [
        {"algorithm": {"name": "os:system", "command": "touch canary"}},
        {"algorithm": {"name": "spy:plain"}},
        {"participation": {"name": "spy:plain"}},
        {"placement": {"name": "spy:plain"}},
        {"aggregator": {"name": "spy:plain"}},
        {"groups": [{"model": {"name": "spy:plain"}, "clients": [0]}]},
        {"split": {"rule": "spy:plain"}},
        {"model": {"name": "lora", "base": {"name": "spy:plain"}}},
        {"model": {"name": "./spy.py:plain"}},
    ],
)
def test_wherever_a_part_is_named(sent, toy, hidden, capsys):
    values = yaml.safe_load(Path("sent/config.yaml").read_text())
    values = {**values, "model": {"name": "mlp"}} | hidden
    Path("sent/config.yaml").write_text(yaml.safe_dump(values))
    mine = configure(toy, "mine.yaml", model="mlp")
    assert fedapm("digest", "sent", "--verify") == 2
    assert fedapm("train", "--resume", "sent") == 2
    assert "is not marked as a run that you" in capsys.readouterr().err
    shutil.copytree("sent", "runs/sent")
    assert fedapm("train", mine, "--resume") == 2
    assert no_code_ran()


def test_a_mark_of_another_run_is_of_no_use(sent, made):
    shutil.copy(made / "own_parts.json", sent)
    assert fedapm("digest", sent, "--verify") == 2
    note = json.loads((sent / "own_parts.json").read_text())
    for bad in ("[]", "{}", "", "null", "[" * 9999, json.dumps({**note, "mark": 5})):
        (sent / "own_parts.json").write_text(bad)
        assert fedapm("digest", sent, "--verify") == 2
    assert no_code_ran()


def test_options_of_ones_own_part_are_not_taken_from_what_was_sent(made, toy):
    """A part of mine is not called with what the sender writes for it."""
    write(
        "own.py",
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Full:\n    text: str = ''\n"
        "    def __post_init__(self):\n        if self.text: open(self.text, 'w')\n"
        "    def check(self, m): pass\n"
        "    def choose(self, m, rng): return list(range(m))\n" + PLAIN,
    )
    forget()
    configure(toy, participation="./own.py:Full")
    shutil.copytree(made, "runs/sent")
    values = yaml.safe_load(Path("runs/sent/config.yaml").read_text())
    values["participation"] = {"name": f"{Path.cwd()}/own.py:Full", "text": "canary"}
    Path("runs/sent/config.yaml").write_text(yaml.safe_dump(values))
    assert fedapm("train", "config.yaml", "--resume") == 2
    assert not Path("canary").exists()


def test_trusting(sent):
    assert fedapm("digest", sent, "--verify", "--trust") == 0
    assert Path("canary").exists()


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("", 2)])
def test_a_question_at_a_terminal(sent, answer, code, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert fedapm("digest", sent, "--verify") == code
    printed = sys.stderr.getvalue()
    assert "sent was not made here and names custom code: spy:plain" in printed
    assert Path("canary").exists() == (code == 0)


def test_no_question_under_a_launcher(sent, monkeypatch):
    monkeypatch.setattr(trust, "launched_size", lambda: (2, "PMI_SIZE"))
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(ConfigError, match="is not marked as a run that you"):
        recompute_digest(sent)


def test_ones_own_configuration_is_trusted(made, home):
    """Who names CONFIG has said which code to run; the run is then marked again."""
    shutil.rmtree(home)
    (made / "own_parts.json").unlink()
    assert fedapm("digest", made, "--verify") == 2
    assert fedapm("train", "config.yaml", "rounds=2", "--resume", made) == 0
    assert fedapm("digest", made, "--verify") == 0


@pytest.mark.parametrize("fault", ["readable", "link", "short", "no-folder"])
def test_a_key_that_cannot_be_used(made, toy, home, fault, capsys, monkeypatch):
    key = home / "fedapm" / "key"
    if fault == "readable":
        key.chmod(0o644)
    elif fault == "short":
        key.write_bytes(b"x")
    elif fault == "link":
        key.rename("other")
        key.symlink_to(Path("other").absolute())
    else:
        Path("file").write_text("")
        monkeypatch.setenv("XDG_STATE_HOME", str(Path("file").absolute()))
    assert fedapm("digest", made, "--verify") == 2
    assert fedapm("train", configure(toy), "rounds=1", "--run-dir", "new") == 0
    printed = capsys.readouterr().out
    assert "cannot be marked as made here, since the key" in printed
    assert "needs --trust" in printed
    assert fedapm("digest", "new", "--verify", "--trust") == 0


@pytest.mark.parametrize("part", ["report", "model"])
def test_a_folder_of_a_study_is_not_trusted(sent, part, capsys):
    values = yaml.safe_load(Path("sent/config.yaml").read_text())
    study = {"config": values, "strong": {"client_ranks": [1]}, "warmup_rounds": 0}
    Path("study").mkdir()
    Path("study/study.yaml").write_text(yaml.safe_dump(study))
    assert fedapm("scale", part, "study") == 3
    assert "not finished, and left out: strong-1-0" in capsys.readouterr().out
    assert no_code_ran()
    if part == "model":
        assert fedapm("scale", part, "study", "--trust") == 3
        assert not no_code_ran()


def forget():
    """Forget what was imported, as another process has."""
    for name in [n for n in sys.modules if n.startswith(("fedapm_own_", "own_helper"))]:
        del sys.modules[name]


def test_sources_are_recorded(made):
    saved = json.loads((made / "provenance.json").read_text())
    assert sorted(saved["own_parts"]) == ["own.py", "own_helper.py"]
    assert all(len(digest) == 64 for digest in saved["own_parts"].values())
    assert "accepted_changes" not in saved


@pytest.mark.parametrize("name", ["own.py", "own_helper.py"])
def test_a_changed_source_is_refused_unless_accepted(made, name, capsys):
    Path(name).write_text(Path(name).read_text() + "# another\n")
    forget()
    words = ["train", "config.yaml", "--run-dir", "run", "rounds=2", "--resume"]
    assert fedapm(*words) == 2
    printed = capsys.readouterr().err
    assert (
        f"run cannot continue: {name} changed since the run started (SHA-256 "
        in printed
    )
    assert "--accept-changed-parts" in printed
    assert fedapm(*words, "--accept-changed-parts") == 0
    assert f"note: {name} changed since the run started" in capsys.readouterr().out
    for _ in range(2):  # a later resume keeps it in mind, and finds no other change
        (change,) = json.loads((made / "provenance.json").read_text())[
            "accepted_changes"
        ]
        assert change.startswith(f"{name} changed since the run started")
        assert fedapm(*words) == 0


@pytest.mark.parametrize(("default", "code"), [("0", 0), ("1", 2)])
def test_an_option_that_came_with_a_changed_source(made, toy, default, code, capsys):
    """It counts with its default, in a group's part too; one that is set does not."""
    shutil.rmtree(made)
    group = {"clients": [0], "model": {"name": "./own.py:plain", "hidden": 8}}
    configure(toy, groups=[group])
    words = ["train", "config.yaml", "--run-dir", "run"]
    assert fedapm(*words, "rounds=1") == 0
    write("own.py", "import own_helper\n" + PLAIN.replace("= 8", "= 8, new: int = 0"))
    forget()
    group["model"]["new"] = int(default)
    configure(toy, groups=[group])
    words += ["rounds=2", "--resume", "--accept-changed-parts"]
    assert fedapm(*words) == code
    if code:
        assert "groups: [" in capsys.readouterr().err


def test_a_source_that_came_or_went(made, capsys):
    Path("own.py").write_text(PLAIN)
    forget()
    assert fedapm("train", "config.yaml", "rounds=2", "--resume", made) == 2
    printed = capsys.readouterr().err
    assert "own.py changed since the run started" in printed
    assert (
        "own_helper.py belonged to its plug-ins when it started and is gone" in printed
    )


def test_an_unchanged_source_in_another_folder_continues(made, toy, monkeypatch):
    unbroken = ["train", "config.yaml", "rounds=2", "--run-dir", "unbroken"]
    assert fedapm(*unbroken) == 0
    Path("moved").mkdir()
    for name in ("own.py", "own_helper.py"):
        shutil.move(name, f"moved/{name}")
    forget()
    configure(toy, model="./moved/own.py:plain")
    assert fedapm("train", "config.yaml", "rounds=2", "--resume", made) == 0
    assert digest_of(made) == digest_of(Path("unbroken"))


def test_runs_from_before_sources_were_kept_continue(made, capsys):
    (path,) = made.glob("checkpoints/round-*/checkpoint.json")
    note = json.loads(path.read_text())
    note["identity"].pop("own_parts")
    of_old(path, note)
    Path("own.py").write_text(PLAIN + "# another\n")
    forget()
    assert fedapm("train", "config.yaml", "rounds=2", "--resume", made) == 0
    assert "changed" not in "".join(capsys.readouterr())


def test_models_by_path_and_name(made, toy):
    names = json.loads((toy["features"] / "manifest.json").read_text())
    name = names["client_names"][3]
    wanted = load_client_model(made, 3).state_dict()
    for run, client in ((str(made), 3), (made, name), (str(made.absolute()), "3")):
        found = load_client_model(run, client).state_dict()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
