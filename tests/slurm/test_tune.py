"""``fedapm tune --slurm`` on a real SLURM of three virtual nodes."""

import pytest

from tests.slurm.submitting import jobs
from tests.support.processes.cli_runs import write_config
from tests.support.tuning import values_of, write_data

SMALL = ("--trials", 3, "--width", 3, "--rungs", "1/2,1", "--passes", 8, "--repeats", 1)


@pytest.mark.slow
def test_arrays_choose_what_one_process_chooses(cluster, site):
    data = write_data(cluster.folder / "tuning")
    write_config(cluster.folder / "tuned.yaml", values_of(data))
    words = ("tune", "tuned.yaml", *SMALL)
    cluster.fedapm(*words, "--out", "runs/alone")
    printed = cluster.fedapm(
        *words, "--out", "runs/arrays", "--slurm", "--ntasks-per-node", 2,
        "--site", site, "--max-concurrent", 2,
    )  # fmt: skip
    _, step = jobs(printed)
    done = cluster.folder / "runs" / "arrays" / "best.yaml"
    for _ in range(4):  # each step submits the next
        state = cluster.wait(step)
        text = next((cluster.folder / "runs/arrays/jobs").glob(f"*-{step}.out"))
        assert state.name == "COMPLETED", text.read_text()
        more = jobs(text.read_text())
        if not more:
            break
        step = more[-1]
    assert done.exists()
    for name in ("trials.csv", "best.yaml"):
        one, other = (cluster.folder / "runs" / k / name for k in ("alone", "arrays"))
        assert one.read_bytes() == other.read_bytes()
