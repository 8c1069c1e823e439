"""What ``fedapm train`` does when asked for something else than a plain run."""

import re

import pytest
import yaml

from tests.support.processes.cli_runs import (
    assert_same_run,
    digest_of,
    experiment,
    train,
    train_many,
    write_config,
)

RANKS = 2


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
    """Run all commands in one job; return their folder and what came of each."""
    root = tmp_path_factory.mktemp("commands")
    config = write_config(root / "config.yaml", experiment(toy["features"]))
    alone = write_config(
        root / "alone.yaml", experiment(toy["alone"], participation="full")
    )
    override = ["algorithm.rho=0.5", "participation=full"]
    commands = {
        "plain": ["train", config, "--run-dir", root / "plain"],
        "override": ["train", config, *override, "--run-dir", root / "override"],
        "print": ["train", config, *override, "--print-config"],
        "dry": ["train", config, "--dry-run", "--run-dir", root / "dry"],
        "named": ["train", config, "--out", root / "out", "--progress", "none"],
        "named-again": ["train", config, "--out", root / "out", "--progress", "none"],
        "live": ["train", config, "--run-dir", root / "live", "--progress", "live"],
        "alone": ["train", alone, "--run-dir", root / "alone"],
        "help": ["train", "--help"],
        "new-by-resume": ["train", config, "--run-dir", root / "new", "--resume"],
    }
    done = train_many(RANKS, commands, root / "output")
    for name, one in done.items():
        assert one.codes == [0] * RANKS, f"{name}: {one}"
        assert one.stdout[1] == "", "only rank 0 talks"
        assert one.stderr == [""] * RANKS
    return root, done


def test_an_override_counts(done):
    assert digest_of(done[0] / "plain") != digest_of(done[0] / "override")


def test_a_printed_configuration_runs_again(done, tmp_path):
    """On one process and without a launcher, too."""
    root, commands = done
    text = commands["print"].stdout[0]
    printed = yaml.safe_load(text)
    assert printed["algorithm"]["rho"] == 0.5
    assert printed["algorithm"]["weight_decay"] == 0.0, "defaults are filled in"
    (tmp_path / "printed.yaml").write_text(text)
    ended = train(None, tmp_path / "printed.yaml", "--run-dir", tmp_path / "run")
    assert ended.returncode == 0, ended
    assert_same_run(tmp_path / "run", root / "override")
    kept = (tmp_path / "run" / "config.yaml").read_text()
    assert kept == (root / "override" / "config.yaml").read_text() == text


def test_a_dry_run_writes_nothing(done):
    root, commands = done
    printed = commands["dry"].stdout[0]
    assert not (root / "dry").exists()
    for text in ("Placement", "per round: 4 of 8 clients", "memory per rank", "min"):
        assert text in printed
    assert re.search(r"0 +│ +server │ +0 │", printed)
    assert re.search(r"1 +│ +clients │ +8 │", printed)


def test_new_runs_get_names_of_their_own(done):
    root, commands = done
    runs = sorted((root / "out").iterdir())
    assert len(runs) == 2
    for run in runs:
        assert re.fullmatch(r"toy-fedapm-\d{8}-\d{6}(-\d+)?", run.name)
        assert_same_run(run, root / "plain")
    for name in ("named", "named-again"):
        assert commands[name].stdout[0] == f"digest {digest_of(runs[0])}\n"


def test_progress_does_not_change_a_run(done):
    root, commands = done
    assert_same_run(root / "live", root / "plain")
    assert "round 3/3" in commands["live"].stdout[0]
    assert commands["plain"].stdout[0].count("\nround ") == 4


def test_resume_starts_what_has_not_begun(done):
    """So that a batch script can say the same words whenever it is started."""
    assert_same_run(done[0] / "new", done[0] / "plain")


def test_a_single_client(done):
    rows = (done[0] / "alone" / "clients.csv").read_text().splitlines()
    assert len(rows) == 2
    assert rows[1].startswith("0,client 0,10,5,")


def test_help(done):
    printed = done[1]["help"].stdout[0]
    assert printed.startswith("usage: fedapm train")
    assert "--resume" in printed
