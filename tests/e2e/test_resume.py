"""Going on with a run: farther, with damaged checkpoints, under another name."""

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.support.experiments import experiments
from tests.support.processes.cli_runs import (
    assert_same_run,
    digest_of,
    experiment,
    rounds_of,
    train,
    train_many,
    write_config,
)

pytestmark = pytest.mark.slow


SOLVER = {
    "optimizer": {"name": "adam", "state": "keep"},
    "schedule": {"name": "cosine", "warmup": 1, "unit": "step", "final": 0.1},
}


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """Return a configuration, its run of six rounds, and one of three more."""
    root = tmp_path_factory.mktemp("finished")
    config = experiment(
        toy["features"],
        rounds=6,
        evaluation={"every": 3},
        checkpoint={"every": 2, "keep": 3},
    )
    path = write_config(root / "config.yaml", config)
    solver = write_config(root / "solver.yaml", config | SOLVER)
    longer = (solver, "rounds=9", "schedule.rounds=6")
    done = train_many(
        2,
        {
            "six": ["train", path, "--run-dir", root / "six"],
            "nine": ["train", path, "rounds=9", "--run-dir", root / "nine"],
            "solver-six": ["train", solver, "--run-dir", root / "solver-six"],
            "solver-nine": ["train", *longer, "--run-dir", root / "solver-nine"],
        },
        root / "output",
    )
    assert [one.codes for one in done.values()] == [[0, 0]] * 4, done
    return root


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def litter(checkpoints):
    """Leave what a crash in the middle of a checkpoint and of a removal leaves."""
    draft = checkpoints / ".round-000008"
    draft.mkdir()
    (draft / "clients-00000-00000.safetensors").write_bytes(b"half")
    (checkpoints / ".old-round-000002").mkdir()


DAMAGE = {
    "clients-truncated": ("clients-00001-00000.safetensors", truncate),
    "clients-flipped": ("clients-00001-00000.safetensors", flip),
    "server-flipped": ("server.safetensors", flip),
    "server-missing": ("server.safetensors", Path.unlink),
    "description-truncated": ("checkpoint.json", truncate),
    "description-empty": ("checkpoint.json", lambda path: path.write_text("{}")),
}
OTHERWISE = {
    "algorithm": ["algorithm.rho=0.2"],
    "seed": ["seed=2"],
    "dtype": ["dtype=float64"],
    "model": ["model.hidden=[9]"],
    "evaluation": ["evaluation.every=2"],
}


@pytest.fixture(scope="module")
def resumed(toy, finished, tmp_path_factory):
    """Go on with copies of the finished run, each with something done to it."""
    root = tmp_path_factory.mktemp("resumed")
    config = finished / "config.yaml"
    commands = {}

    def copy(name, *words, to=None):
        run = to or root / name
        shutil.copytree(finished / "six", run)
        commands[name] = ["train", config, *words, "--resume", run]
        return run / "checkpoints"

    copy("again")
    copy("farther", "rounds=9")
    litter(copy("littered", "rounds=9"))
    checkpoints = copy("first-unfinished", "rounds=9")
    litter(checkpoints)
    for path in checkpoints.glob("round-*"):
        shutil.rmtree(path)
    for name, (file, harm) in DAMAGE.items():
        harm(copy(name, "rounds=9") / "round-000006" / file)
    checkpoints = copy("two-damaged", "rounds=9")
    flip(checkpoints / "round-000006" / "server.safetensors")
    truncate(checkpoints / "round-000004" / "checkpoint.json")
    for name, words in OTHERWISE.items():
        copy(f"other-{name}", *words)
    commands["other-data"] = [
        "train", config, f"data={toy['odd']}", "--resume", root / "again",
    ]  # fmt: skip
    for name, rounds in (("solver-six", 6), ("solver-nine", 9)):
        run = shutil.copytree(finished / "solver-six", root / name)
        for done in ("final", "checkpoints/round-000006"):
            shutil.rmtree(run / done)
        commands[name] = ["train", f"rounds={rounds}", "--resume", run]
    _add_nameless(root, finished, commands)
    return root, train_many(3, commands, root / "output")


def _add_nameless(root, finished, commands):
    """Add ``--resume`` without a name, among runs of which one is meant."""
    out = root / "out"
    for name in ("older", "newest", "of-another-experiment"):
        shutil.copytree(finished / "six", out / name)
        shutil.rmtree(out / name / "final")
        path = out / name / "config.yaml"
        if name == "of-another-experiment":
            path.write_text(path.read_text().replace("seed: 1", "seed: 3"))
        now = time.time() + {"older": -60, "newest": -30}.get(name, 0)
        os.utime(path, (now, now))
    config = finished / "config.yaml"
    commands["nameless"] = ["train", config, "--out", out, "--resume"]
    commands["nameless-unknown"] = [
        "train", config, "seed=9", "--out", out, "--resume",
    ]  # fmt: skip


def test_a_finished_run_stays_as_it_is(finished, resumed):
    root, done = resumed
    assert done["again"].codes == [0] * 3, done["again"]
    assert_same_run(root / "again", finished / "six")


@pytest.mark.parametrize("name", ["farther", "littered"])
def test_more_rounds(finished, resumed, name):
    root, done = resumed
    assert done[name].codes == [0] * 3, done[name]
    assert "continuing after round 6" in done[name].stdout[0]
    assert_same_run(root / name, finished / "nine")
    hidden = [p.name for p in (root / name / "checkpoints").glob(".*")]
    assert hidden == []


@pytest.mark.parametrize("name", ["solver-six", "solver-nine"])
def test_in_the_middle_of_a_schedule_with_kept_optimizer_states(
    finished, resumed, name
):
    """From round 4 of 6; where more rounds are asked for, the schedule stays."""
    root, done = resumed
    assert done[name].codes == [0] * 3, done[name]
    printed = done[name].stdout[0]
    assert "continuing after round 4" in printed
    ended = "the schedule ends after 6 of 9 rounds; in round 7 its factor of the step"
    assert (ended in printed) == (name == "solver-nine")
    assert_same_run(root / name, finished / name)
    assert digest_of(root / name) != digest_of(finished / "six")


def test_a_crash_in_the_first_checkpoint(finished, resumed):
    root, done = resumed
    assert done["first-unfinished"].codes == [0] * 3, done["first-unfinished"]
    printed = done["first-unfinished"].stdout[0]
    assert "note: no checkpoint yet: starting from the beginning" in printed
    assert_same_run(root / "first-unfinished", finished / "nine")


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(finished, resumed, name):
    root, done = resumed
    assert done[name].codes == [0] * 3, done[name]
    printed = done[name].stdout[0]
    assert "note: damaged checkpoint round-000006 set aside" in printed
    assert "continuing after round 4" in printed
    assert_same_run(root / name, finished / "nine")


def test_two_damaged_checkpoints(finished, resumed):
    root, done = resumed
    printed = done["two-damaged"].stdout[0]
    assert printed.count("note: damaged checkpoint") == 2
    assert "continuing after round 2" in printed
    assert_same_run(root / "two-damaged", finished / "nine")


@pytest.mark.parametrize("key", OTHERWISE)
def test_another_configuration_is_refused(finished, resumed, key):
    root, done = resumed
    one = done[f"other-{key}"]
    assert one.codes == [2] * 3, one
    assert "cannot continue under another configuration" in one.stderr[0]
    assert f":\n  {key}" in one.stderr[0]
    assert " -> " in one.stderr[0]
    assert one.stderr[1:] == ["", ""]
    # Nothing of the run was touched.
    assert digest_of(root / f"other-{key}") == digest_of(finished / "six")
    assert rounds_of(root / f"other-{key}") == rounds_of(finished / "six")


def test_other_data_are_refused(resumed):
    one = resumed[1]["other-data"]
    assert one.codes == [2] * 3, one
    assert "manifest: " in one.stderr[0]


def test_resume_without_a_name_finds_the_newest_run(finished, resumed):
    root, done = resumed
    assert done["nameless"].codes == [0] * 3, done["nameless"]
    ended = {p.name for p in (root / "out").iterdir() if (p / "final").exists()}
    assert ended == {"newest"}
    assert_same_run(root / "out" / "newest", finished / "six")


def test_resume_without_a_name_and_nothing_to_find(resumed):
    one = resumed[1]["nameless-unknown"]
    assert one.codes == [2] * 3, one
    assert "no run of this experiment" in one.stderr[0]


def test_no_usable_checkpoint(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished / "six", run)
    for path in (run / "checkpoints").glob("round-*/server.safetensors"):
        flip(path)
    ended = train(2, finished / "config.yaml", "--resume", run)
    assert ended.returncode == 70, ended
    assert "no usable checkpoint in" in ended.stderr
    for damaged in ("round-000006", "round-000004", "round-000002"):
        assert f"damaged checkpoint {damaged} set aside" in ended.stderr
    assert ended.stderr.count("no usable checkpoint") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", ["fine-tuned", "both-copies"])
def test_models_are_tuned_and_compared_alike_after_a_resume(toy, tmp_path, name):
    """On other numbers of ranks as well."""
    path = write_config(tmp_path / "c.yaml", experiments(toy)[name])
    parts = tmp_path / "parts"
    first = ["train", path, "rounds=2", "--run-dir", parts]
    for ranks, commands in (
        (1, {"whole": ["train", path, "--run-dir", tmp_path / "whole"], "two": first}),
        (3, {"three": ["train", path, "--resume", parts]}),
    ):
        done = train_many(ranks, commands, tmp_path / f"output-{ranks}")
        assert [one.codes for one in done.values()] == [[0] * ranks] * len(done), done
    assert "continuing after round 2" in done["three"].stdout[0]
    assert_same_run(parts, tmp_path / "whole")
