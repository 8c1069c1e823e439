"""A user's own sparsifier and secure sum: the same bits over ranks and when resumed."""

import pytest

from fedapm_mpi.analysis.client_model import load_client_model, recompute_digest
from tests.support import PLUGINS
from tests.support.processes.cli_runs import (
    digest_of,
    experiment,
    train,
    train_many,
    write_config,
)

pytestmark = pytest.mark.slow

TOP_K = {"name": "top_k:TopK", "fraction": 0.1}
MASKED = {"name": "masked_sum:MaskedSum"}


@pytest.fixture(scope="module")
def folder(done):
    """Return a folder with runs on one rank: plain, masked, sparse, and both."""
    return done[0]


@pytest.fixture(scope="module")
def done(toy, tmp_path_factory):
    """Run all commands of one rank in one job; return their folder and their ends."""
    root = tmp_path_factory.mktemp("transforms")
    commands = {}
    for name, changes in {
        "plain": {},
        "masked": {"aggregator": MASKED},
        "sparse": {"update_transforms": [TOP_K]},
        "both": {"update_transforms": [TOP_K], "aggregator": MASKED},
    }.items():
        config = experiment(toy["features"], rounds=4, **changes)
        path = write_config(root / f"{name}.yaml", config)
        commands[name] = ["train", path, "--run-dir", root / name]
    commands["other"] = ["train", "--resume", root / "sparse", "update_transforms=[]"]
    done = train_many(1, commands, root / "output")
    for name in ("plain", "masked", "sparse", "both"):
        assert done[name].codes == [0], done[name]
    return root, done


def test_masks_cancel_to_the_bit(folder):
    assert digest_of(folder / "masked") == digest_of(folder / "plain")


def test_a_sparse_run_is_another_run_that_can_be_read(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(PLUGINS))
    assert digest_of(folder / "sparse") != digest_of(folder / "plain")
    assert recompute_digest(folder / "sparse", trust=True) == digest_of(
        folder / "sparse"
    )
    load_client_model(folder / "sparse", 0, trust=True)


def test_both_are_the_same_on_three_ranks_and_when_resumed(folder):
    run = folder / "three"
    half = folder / "half.yaml"
    half.write_text(
        (folder / "both.yaml").read_text().replace("rounds: 4", "rounds: 2")
    )
    assert train(3, half, "--run-dir", run).returncode == 0
    assert train(2, "--resume", run, "rounds=4").returncode == 0
    assert digest_of(run) == digest_of(folder / "both")
    assert digest_of(folder / "both") == digest_of(folder / "sparse")


def test_a_resumed_run_with_other_transforms_is_refused(done):
    refused = done[1]["other"]
    assert refused.codes == [2], refused
    assert "update_transforms" in refused.stderr[0]
