"""``fedapm split`` gives the same bytes on one process and on several ranks."""

import pytest

from fedapm_mpi.cli import main as cli
from tests.support.processes.cli_runs import experiment, train_many, write_config

pytestmark = pytest.mark.slow

RANKS = 3
RULES = {
    "multiplier": ["split.auto.rounds=2"],
    "sensitivity": ["split.auto.rule=federation_sensitivity"],
    "fedselect": ["split.auto.rule=fedselect"],
}


def test_the_same_files_on_one_process_and_on_ranks(toy, tmp_path):
    values = experiment(toy["features"])
    del values["split"]
    config = write_config(tmp_path / "c.yaml", values)
    wanted = {
        name: ["split", config, "--out", tmp_path / name, *words]
        for name, words in RULES.items()
    }
    wanted["wrong"] = ["split", config, "--candidates", "heads"]
    done = train_many(RANKS, wanted, tmp_path / "job")
    for name, words in RULES.items():
        assert done[name].codes == [0] * RANKS, done[name]
        assert "chosen" in done[name].stdout[0]
        assert done[name].stdout[1:] == [""] * (RANKS - 1)
        alone = tmp_path / f"{name}-alone"
        assert cli.main(["split", str(config), "--out", str(alone), *words]) == 0
        files = sorted(path.name for path in alone.iterdir())
        assert files == sorted(path.name for path in (tmp_path / name).iterdir())
        for file in files:
            one, other = (folder / file for folder in (alone, tmp_path / name))
            assert one.read_bytes() == other.read_bytes()
    assert done["wrong"].codes == [2] * RANKS
