"""``fedapm doctor`` on a real SLURM of three virtual nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.slurm_box import PATIENCE, environment
from tests.support import PROCESSES
from tests.support.processes.cli_runs import fedapm, user_path

LOCAL = Path("/dev/shm/fedapm-doctor-data")
"""A folder that every node has for itself."""


SIX = ("--ntasks=6", "--ntasks-per-node=2", "--kill-on-bad-exit=1")


ON_EACH_NODE = ("--ntasks=3", "--ntasks-per-node=1")
"""For commands on a node's own files, which two tasks would change at once."""


def srun(cluster, *command, kind="pmi2", tasks=SIX, **variables):
    """Run a command on three nodes, two tasks on each; return how it ended."""
    return subprocess.run(
        ["srun", "--nodes=3", "--time=2", *tasks, f"--mpi={kind}", *command],
        env=environment(**cluster.conf, **variables),
        cwd=cluster.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def doctor(cluster, *words, **more):
    saved = cluster.folder / "saved.json"
    saved.unlink(missing_ok=True)
    # A step that hangs must end, and say so, before the test's patience does.
    words = (*words, "--timeout", "30", "--json", saved)
    command = (sys.executable, *fedapm("doctor", *words))
    done = srun(cluster, *command, **more)
    seen = json.loads(saved.read_text()) if saved.exists() else None
    return done, seen


def levels(seen):
    return [(one["level"], one["name"]) for one in seen["findings"]]


def test_a_healthy_job_of_six_tasks_on_three_nodes(cluster):
    done, seen = doctor(cluster, "config.yaml")
    assert done.returncode == 0, done
    assert not [level for level, _ in levels(seen) if level == "fault"], done
    hosts = [one["host"] for one in seen["ranks"]]
    assert hosts == ["n1", "n1", "n2", "n2", "n3", "n3"]
    assert [one["node"] for one in seen["ranks"]] == [0, 0, 2, 2, 4, 4]
    assert {one["launcher"] for one in seen["ranks"]} == {"srun"}
    assert {one["pmi"] for one in seen["ranks"]} == {"pmi2"}
    assert "which started 6 rank(s); it suits the library" in done.stdout


@pytest.mark.parametrize("kind", ["none", "pmix"])
def test_a_launcher_that_the_library_does_not_understand(cluster, kind):
    done, seen = doctor(cluster, kind=kind)
    assert done.returncode != 0
    # MPICH ends the job when it meets PMIx: the doctor must have reported it before.
    assert f"may not start under srun --mpi={kind}" in done.stderr
    assert "start ranks by srun --mpi=pmi2" in done.stderr
    if kind == "none":
        assert levels(seen) == [("fault", "singletons")]
        (finding,) = seen["findings"]
        assert "srun started 6 ranks (SLURM_STEP_NUM_TASKS)" in finding["what"]
        assert "each is alone" in finding["what"]
        assert "start them by srun --mpi=pmi2" in finding["mend"]


def test_a_shard_that_is_missing_on_one_host(cluster):
    data = cluster.folder / "data"
    try:
        copy = f"mkdir -p {LOCAL} && cp -n {data}/* {LOCAL}"
        done = srun(cluster, "sh", "-c", copy, tasks=ON_EACH_NODE)
        assert done.returncode == 0, done
        done, seen = doctor(cluster, LOCAL)
        assert done.returncode == 0, done
        lost = f"[ $(hostname) != n2 ] || rm -f {LOCAL}/*.h5"
        assert srun(cluster, "sh", "-c", lost, tasks=ON_EACH_NODE).returncode == 0
        done, seen = doctor(cluster, LOCAL)
        # srun reports that it ended the other tasks, or the first task's own code.
        assert done.returncode != 0, done
        assert seen["exit_code"] == 3
        assert levels(seen) == [("fault", "missing shard")], done
        assert seen["findings"][0]["what"].startswith(f"on n2, {LOCAL}/shard-")
        lost = f"[ $(hostname) = n1 ] || rm -rf {LOCAL}"
        assert srun(cluster, "sh", "-c", lost, tasks=ON_EACH_NODE).returncode == 0
        done, seen = doctor(cluster, LOCAL)
        assert levels(seen) == [("fault", "missing data")], done
        assert f"n2, n3 has no folder {LOCAL}" in seen["findings"][0]["what"]
    finally:
        srun(cluster, "rm", "-rf", str(LOCAL), tasks=ON_EACH_NODE)


def test_a_folder_that_is_not_shared(cluster):
    own = LOCAL.with_name("fedapm-doctor-runs")
    try:
        made = srun(cluster, "mkdir", "-p", str(own), tasks=ON_EACH_NODE)
        assert made.returncode == 0
        _, seen = doctor(cluster, "--run-dir", own)
        assert seen["exit_code"] == 2
        assert levels(seen) == [("fault", "not shared")]
        what = seen["findings"][0]["what"]
        assert what == f"n2, n3 (ranks 2-5) do not see what n1 writes to {own}"
    finally:
        srun(cluster, "rm", "-rf", str(own), tasks=ON_EACH_NODE)


def test_a_rank_that_hangs_ends_the_step(cluster):
    faults = PROCESSES / "doctor_faults.py"
    words = (sys.executable, str(faults), "stop", "sum", "--timeout=3")
    path = user_path()["PYTHONPATH"]
    # srun itself leaves the others running.
    done = srun(cluster, *words, tasks=("--ntasks=3",), PYTHONPATH=path)
    assert done.returncode not in (0, None), done
    assert "rank 0 of 3 on n1 has been at 'sum' for 3 s" in done.stderr
    assert "rank 1 of 3 on n2 has been at" in done.stderr
