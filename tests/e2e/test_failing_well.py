"""What can go wrong ends every rank, with a clear word and the right exit code."""

import json
import os
import re
import shutil
import time
from pathlib import Path

import h5py
import pytest

from tests.support.data.resealing import make_old, reseal
from tests.support.plugins import user_parts
from tests.support.processes.cli_runs import (
    ABORTED,
    FEDAPM,
    FEDSIM,
    assert_same_run,
    experiment,
    train,
    train_many,
    write_config,
)

RANKS = 2


@pytest.fixture(scope="module")
def broken(toy, tmp_path_factory):
    """Return data sets that something was done to."""
    root = tmp_path_factory.mktemp("broken-data")

    def copy(name):
        return Path(shutil.copytree(toy["features"], root / name))

    shard = "shard-00002-of-00003.h5"
    (copy("shard-missing") / shard).unlink()
    path = copy("shard-truncated") / shard
    os.truncate(path, path.stat().st_size - 100)
    path = copy("shard-replaced") / shard
    path.write_bytes(bytes(path.stat().st_size))
    path = copy("manifest-other") / "manifest.json"
    tree = json.loads(path.read_text())
    tree["counts"]["train"][7] += 1  # of a client in the last shard
    tree["label_counts"]["train"][7][0] += 1
    path.write_text(json.dumps(tree))
    path = copy("manifest-truncated") / "manifest.json"
    os.truncate(path, 200)
    (copy("manifest-missing") / "manifest.json").unlink()
    for name in FLIPPED:
        # In small blocks: what is in a client's samples is found when they are read.
        reseal(copy(name), 2, lambda file: None, block=64)
    make_old(root / "flipped-old")
    for name, what in FLIPPED.items():
        flip(root / name / shard, what)
    return root


def flip(path, what):
    """Flip a bit of one of the last numbers of an array of a shard."""
    with h5py.File(path, "r", locking=False) as file:
        array = file[what]
        last = array.id.get_offset() + array.size * array.dtype.itemsize - 60
    with path.open("r+b") as file:
        file.seek(last)
        bits = file.read(1)[0]
        file.seek(last)
        file.write(bytes([bits ^ 1]))


CONFIGS = {
    "pattern": ({"split": {"personal": ["haed.*"]}}, 2, "matches no parameter"),
    "two-splits": ({"split": {"auto": {}, "last": 1}}, 2, "give exactly one of"),
    "placement": (
        {"placement": "user_parts:beyond"},
        2,
        "placement 'user_parts:beyond' must give each of the 8 clients a host",
    ),
    "own-missing": ({"model": "user_prats:net"}, 2, "cannot import 'user_prats'"),
    "own-misspelt": ({"model": "user_parts:fragil"}, 2, "did you mean 'fragile'?"),
    "own-undecided": (
        {"placement": "user_parts:undecided"},
        2,
        "placement 'user_parts:undecided' gave one placement on rank 0 and another",
    ),
    "own-tiring": (
        {"participation": "user_parts:Tiring"},
        70,
        "participation 'user_parts:Tiring' failed: ValueError: tired (",
    ),
    "count": (
        {"participation": {"name": "random", "count": 9}},
        2,
        "participation.count is 9, but the data set has only 8 clients",
    ),
    "no-buffers": ({"buffers": "mean"}, 2, "the model has no floating buffers"),
    "not-finite": (
        {"algorithm": FEDAPM | {"lr_shared": 1e30}},
        70,
        r"is (nan|inf|not finite).*|client \d, round \d",
    ),
    "data-missing": ({"data": "/nowhere"}, 3, "/nowhere is not a finished data set"),
}
DATA = {
    "shard-missing": "cannot be found",
    "shard-truncated": "it is truncated or of another data set",
    "shard-replaced": "shard-00002-of-00003.h5",
    "manifest-other": "manifest",
    "manifest-truncated": "is not valid JSON",
    "manifest-missing": "manifest.json does not exist",
}
FLIPPED = {
    "flipped-input": "train/inputs/x",
    "flipped-label": "train/label",
    "flipped-test": "test/inputs/x",
    "flipped-old": "train/label",
}
"""Arrays of a shard, a bit of which has changed."""

MISTAKES = """\
data: nowhere
rounds: 0.5
particpation: full
model: {name: mlp, hiden: [8]}
algorithm: {name: fedapm, roh: 0.1, rho: -1}
evaluation: {evry: 3}
split: {personal: [head.*]}
placement: contigous
"""


@pytest.fixture(scope="module")
def done(toy, broken, tmp_path_factory):
    """Run all that ends in peace in one job; return what came of each command."""
    root = tmp_path_factory.mktemp("failing")
    good = write_config(root / "good.yaml", experiment(toy["features"]))
    (root / "mistakes.yaml").write_text(MISTAKES)
    (root / "list.yaml").write_text("- data\n")
    (root / "broken.yaml").write_text("data: [\n")
    (root / "full").mkdir()
    (root / "full" / "thesis.txt").write_text("precious")
    commands = {
        "mistakes": ["train", root / "mistakes.yaml", "--run-dir", root / "mistakes"],
        "no-file": ["train", root / "nothing.yaml"],
        "no-config": ["train"],
        "not-a-mapping": ["train", root / "list.yaml"],
        "not-yaml": ["train", root / "broken.yaml"],
        "override": ["train", good, "rounds"],
        "option": ["train", good, "--run-dri", root / "x"],
        "not-empty": ["train", good, "--run-dir", root / "full"],
        "below-a-file": ["train", good, "--run-dir", root / "full/thesis.txt/run"],
        "two-runs": ["train", good, "--resume", root / "full", "--run-dir", root],
    }
    for name, (changes, _, _) in CONFIGS.items():
        config = experiment(toy["features"], placement="contiguous") | changes
        path = write_config(root / f"{name}.yaml", config)
        commands[name] = ["train", path, "--run-dir", root / name]
    for name in (*DATA, *FLIPPED, "flipped-diagnosed"):
        config = experiment(broken / name, placement="contiguous")
        if name == "flipped-diagnosed":  # which reads training samples in round 0
            config["data"] = str(broken / "flipped-input")
            config["diagnostics"] = {"lagrangian": True}
        path = write_config(root / f"{name}.yaml", config)
        commands[name] = ["train", path, "--run-dir", root / name]
    return root, train_many(3, commands, root / "output")


def check(one, code, text):
    """Check that all ranks ended alike, and that rank 0 alone said why, in a line."""
    assert one.codes == [code] * 3, one
    assert one.stderr[1:] == ["", ""], one
    assert "Traceback" not in one.stderr[0], one
    assert one.stderr[0].startswith("fedapm: error: "), one
    assert text in one.stderr[0], one


def test_all_mistakes_of_a_configuration_are_reported_at_once(done):
    root, all_done = done
    one = all_done["mistakes"]
    check(one, 2, "mistakes.yaml:\n")
    for mistake in (
        "particpation: unknown key; did you mean 'participation'?",
        "hiden: unknown key; did you mean 'hidden'?",
        "roh: unknown key; did you mean 'rho'?",
        "evry: unknown key; did you mean 'every'?",
        "unknown placement 'contigous'; did you mean 'contiguous'?",
    ):
        assert mistake in one.stderr[0], one
    assert re.search(r"rounds: .*0\.5", one.stderr[0]), one
    assert "".join(one.stdout) == ""
    assert not (root / "mistakes").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_that_do_not_fit(done, name):
    _, code, text = CONFIGS[name]
    if name == "not-finite":
        one = done[1][name]
        check(one, code, "")
        assert re.search(r"(client \d+, round \d+|client \d+ in round \d+)", str(one))
        assert "lower the learning rate" in one.stderr[0]
    else:
        check(done[1][name], code, text)
        assert (done[0] / name).exists() == (code == 70)  # which is in use


@pytest.mark.parametrize("name", DATA)
def test_damaged_data(done, name):
    check(done[1][name], 3, DATA[name])
    assert str(name) in done[1][name].stderr[0]
    assert not (done[0] / name).exists()


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bits_of_samples(done, name):
    words = {
        "flipped-input": "is damaged where the train samples of client ",
        "flipped-label": "is damaged",  # HDF5 reads a little more than it needs
        "flipped-test": "is damaged where the test samples of client ",
        "flipped-old": "has changed since it was written",
    }[name]
    check(done[1][name], 3, f"{name}/shard-00002-of-00003.h5 {words}")
    assert not (done[0] / name / "final").exists()


def test_flipped_bits_that_a_diagnostic_reads(done):
    words = "flipped-input/shard-00002-of-00003.h5 is damaged where the train samples"
    check(done[1]["flipped-diagnosed"], 3, words)


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("no-file", 2, "nothing.yaml: No such file or directory"),
        ("no-config", 2, "name a CONFIG file, or a run to continue"),
        ("not-a-mapping", 2, "list.yaml must hold keys and values, not a list"),
        ("not-yaml", 2, "broken.yaml is not valid YAML"),
        ("override", 2, "override 'rounds' is not of the form key=value"),
        ("not-empty", 2, "is not empty; continue the run in it by --resume"),
        ("below-a-file", 2, "thesis.txt is not a folder; name another"),
        ("two-runs", 2, "name two runs"),
    ],
)
def test_command_lines_that_do_not_work(done, name, code, text):
    check(done[1][name], code, text)


def test_a_directory_in_use_is_left_alone(done):
    files = [(p.name, p.read_text()) for p in (done[0] / "full").iterdir()]
    assert files == [("thesis.txt", "precious")]


def test_usage_errors_are_reported_once(done):
    one = done[1]["option"]
    assert one.codes == [2] * 3, one
    assert "--run-dri" in one.stderr[0]
    assert one.stderr[1:] == ["", ""]


def test_the_launcher_hands_on_the_exit_code(tmp_path):
    ended = train(RANKS, tmp_path / "nothing.yaml")
    assert ended.returncode == 2, ended
    assert ended.stderr.count("fedapm: error: ") == 1
    assert ended.left_behind == 0


def test_an_exception_on_one_rank_ends_all(toy, tmp_path):
    config = write_config(
        tmp_path / "config.yaml",
        experiment(
            toy["features"],
            model="user_parts:fragile",
            participation="full",
            rounds=5,
            evaluation={"every": 1},
            checkpoint={"every": 1, "keep": 2},
            # A rank counts the batches that it saw of a client.
            scheduling="static",
        ),
    )
    run = tmp_path / "run"
    # Client 5 has two batches in each of two phases: it fails in its third round.
    poison = {
        user_parts.POISONED: "5",
        user_parts.POISON_FROM: "9",
        user_parts.POISON_TIME: str(tmp_path / "time"),
    }
    ended = train(3, config, "--run-dir", run, env=poison)
    seconds = time.monotonic() - float((tmp_path / "time").read_text())
    assert seconds < 10
    assert ended.returncode == 70, ended
    assert ended.left_behind == 0
    # A user's own model: all ranks hear of it, and one says so.
    assert ended.stderr.count("fedapm: error: ") == 1, ended
    assert re.search(
        r"error: client 5, round 3: model 'user_parts:fragile' failed: RuntimeError: "
        r"this client is poison \(.*user_parts.py, line \d+\)",
        ended.stderr,
    ), ended
    assert "Traceback" not in ended.stderr
    kept = sorted(path.name for path in (run / "checkpoints").glob("round-*"))
    assert kept == ["round-000001", "round-000002"]

    done = train_many(
        RANKS,
        {
            "on": ["train", config, "--resume", run],
            "unbroken": ["train", config, "--run-dir", tmp_path / "unbroken"],
        },
        tmp_path / "output",
    )
    assert done["on"].codes == [0] * RANKS, done["on"]
    assert "continuing after round 2" in done["on"].stdout[0]
    assert_same_run(run, tmp_path / "unbroken")


def test_an_own_part_that_fails_on_all_ranks_where_they_cannot_agree(toy, tmp_path):
    values = experiment(toy["features"], aggregator="user_parts:Torn")
    config = write_config(tmp_path / "config.yaml", values)
    ended = train(3, config, "--run-dir", tmp_path / "run")
    assert ended.returncode in ABORTED, ended
    assert ended.left_behind == 0
    assert "Traceback" not in ended.stderr
    printed = [t for t in ended.stderr.splitlines() if t.startswith("fedapm: error: ")]
    wanted = "aggregator 'user_parts:Torn' failed: ValueError: torn ("
    # Others speak only where the launcher takes longer than a second to end them.
    assert printed[0].startswith(f"fedapm: error: rank 0 of 3: {wanted}"), ended
    assert all(wanted in line for line in printed), ended


def test_a_test_loss_that_is_not_finite(toy, tmp_path):
    """Training does not see it: each of its losses was taken before the bad step."""
    algorithm = {"name": "local"} | FEDSIM | {"lr": 1e38, "work": {"steps": 1}}
    config = write_config(
        tmp_path / "config.yaml",
        experiment(
            toy["features"], split=None, algorithm=algorithm, evaluation={"every": 1}
        ),
    )
    ended = train(RANKS, config, "--run-dir", tmp_path / "run")
    assert ended.returncode in ABORTED, ended
    assert re.search(r"the test loss of client \d is (nan|inf) after round", str(ended))
    assert "Traceback" not in ended.stderr
    assert ended.left_behind == 0


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PMI_SIZE": "4"}, "PMI_SIZE"),
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "OMPI_COMM_WORLD"),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_ranks_that_a_launcher_left_alone(toy, tmp_path, variables, named):
    config = write_config(tmp_path / "config.yaml", experiment(toy["features"]))
    ended = train(None, config, "--run-dir", tmp_path / "run", env=variables)
    assert ended.returncode == 2, ended
    assert named in ended.stderr
    assert "4 ranks were started, but this one is alone" in ended.stderr
    assert not (tmp_path / "run").exists()
