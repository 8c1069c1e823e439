"""New clients have the same figures on any number of ranks."""

import numpy as np
import pytest

from tests.support.preparation import prepare
from tests.support.processes.cli_runs import experiment, train_many, write_config

pytestmark = pytest.mark.slow


def test_any_number_of_ranks(tmp_path):
    rng = np.random.default_rng(0)
    owner = np.arange(160) % 8
    arrays = {"x_f": rng.normal(size=(160, 3)), "y": rng.integers(0, 3, 160)}
    np.savez(tmp_path / "raw.npz", **arrays, client=owner)
    prepare("arrays", tmp_path / "raw.npz", tmp_path / "d", "new_clients=0.4")
    config = write_config(tmp_path / "c.yaml", experiment(tmp_path / "d"))
    found = []
    for ranks in (1, 3):
        run, out = tmp_path / f"run-{ranks}", tmp_path / f"new-{ranks}"
        done = train_many(
            ranks,
            {
                "train": ["train", config, "--run-dir", run],
                "evaluate": ["evaluate", run, "--out", out],
            },
            tmp_path / f"output-{ranks}",
        )
        for name, one in done.items():
            assert one.codes == [0] * ranks, f"{name}: {one}"
            assert not any(one.stdout[1:]), "only rank 0 talks"
        assert "3 new clients' own test parts" in done["evaluate"].stdout[0]
        files = sorted(path.name for path in out.iterdir())
        assert files == ["clients.csv", "config.yaml", "summary.json"]
        found.append([(out / name).read_bytes() for name in files[::2]])
    assert found[0] == found[1]
