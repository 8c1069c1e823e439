"""``fedapm doctor`` on ranks, healthy and with real faults."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import h5py
import pytest

import fedapm_mpi
from fedapm_mpi.data.manifest import read_manifest
from tests.support import PROCESSES
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import (
    TIMEOUT,
    Forks,
    experiment,
    fedapm,
    user_path,
    write_config,
)

FAULTS = str(PROCESSES / "doctor_faults.py")
RANKS = 3


def doctor(ranks, *words, env=None, **more):
    command = fedapm("doctor", *words)
    return mpiexec.run(ranks, command, timeout=TIMEOUT, env=env, **more)


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    """Return what runs commands in one process each that has loaded all."""
    with Forks(tmp_path_factory.mktemp("forks")) as forks:
        yield forks


def copy(data, to):
    return Path(shutil.copytree(data, to))


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_healthy_job(toy, tmp_path):
    config = write_config(tmp_path / "config.yaml", experiment(toy["features"]))
    saved = tmp_path / "saved.json"
    ended = doctor(RANKS, "config.yaml", toy["odd"], "--json", saved, cwd=tmp_path)
    assert ended.returncode == 0, ended
    assert not ended.left_behind
    seen = json.loads(saved.read_text())
    assert (seen["exit_code"], len(seen["ranks"])) == (0, RANKS)
    assert not [one for one in seen["findings"] if one["level"] == "fault"]
    assert [one["rank"] for one in seen["ranks"]] == [0, 1, 2]
    assert {one["node"] for one in seen["ranks"]} == {0}
    assert seen["measured"]["wrong"] == []
    assert all(seconds > 0 for seconds in seen["measured"]["seconds"].values())
    assert all(rate > 0 for rate in seen["measured"]["bytes_per_second"].values())
    looked = [sum(one["shards"] for one in data["seen"]) for data in seen["data"]]
    assert looked == [3, 2], "every shard once, by one of the ranks of the node"
    assert all(one["lock"] == "seen" for one in seen["shared"])
    launcher = mpiexec.find_mpiexec()[1]
    assert {one["launcher"] for one in seen["ranks"]} == {launcher}
    assert f"which started {RANKS} rank(s); it suits the library" in ended.stdout
    assert left_in(tmp_path) == [config.name, saved.name]


def test_one_process_without_a_launcher(toy, tmp_path):
    data = copy(toy["features"], tmp_path / "data")
    (data / "shard-00001-of-00003.h5").unlink()
    os.truncate(data / "shard-00002-of-00003.h5", 100)
    with h5py.File(data / "shard-00000-of-00003.h5", "a"):
        ended = doctor(None, data, toy["odd"], cwd=tmp_path)
        assert ended.returncode == 3, ended
        for text in (
            "shard-00001-of-00003.h5, which holds clients",
            "cannot be found",
            "shard-00002-of-00003.h5 has 100 bytes",
            "shard-00000-of-00003.h5 is locked: a program has it open for writing",
            "doctor: 3 faults",
        ):
            assert text in ended.stdout
        # The remedy that is named: fedapm itself reads without locks.
        remedy = {"HDF5_USE_FILE_LOCKING": "FALSE"}
        ended = doctor(None, data, cwd=tmp_path, env=remedy)
        assert "locked" not in ended.stdout
        assert "doctor: 2 faults" in ended.stdout
    assert left_in(tmp_path) == ["data"]


def test_clients_that_do_not_take_part_need_no_shards(toy, tmp_path, forks):
    """Six clients in three shards, the last of which is missing."""
    data = copy(toy["features"], tmp_path / "data")
    (data / "shard-00002-of-00003.h5").unlink()
    config = write_config(tmp_path / "config.yaml", experiment(data))
    last = read_manifest(data).files[-1].clients[0]
    for count, code in ((last, 0), (last + 1, 3)):
        ended = forks.run("doctor", config, f"clients={count}", cwd=tmp_path)
        assert ended.returncode == code, ended


def test_faults_of_ranks_of_one_job_are_all_named(toy, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(Path(fedapm_mpi.__file__).parent, other / "fedapm_mpi")
    with (other / "fedapm_mpi" / "optim" / "admm.py").open("a") as file:
        file.write("# changed\n")
    data = copy(toy["features"], tmp_path / "data")
    (data / "shard-00001-of-00003.h5").unlink()
    argv = [FAULTS, "skew", str(other), str(data)]
    own, before = os.sched_getaffinity(0), user_path()
    os.sched_setaffinity(0, {min(own)})  # as taskset does
    try:
        ended = mpiexec.run(RANKS, argv, timeout=TIMEOUT, env=before, cwd=tmp_path)
    finally:
        os.sched_setaffinity(0, own)
    assert ended.returncode == 2, ended
    assert (
        "fault: the source of fedapm_mpi is not the same on all ranks" in ended.stdout
    )
    assert "on rank 2" in ended.stdout
    assert "cannot be found" in ended.stdout
    cores = f"ranks 1-2 on {os.uname().nodename}, 2 threads on core(s) {min(own)}"
    assert f"warning: more threads than cores: {cores}" in ended.stdout
    assert "doctor: 2 faults, 1 warning" in ended.stdout


@pytest.mark.parametrize("step", ["sum", "reading clocks"])
def test_a_rank_that_hangs_ends_the_job_with_where_each_stands(step, tmp_path):
    argv = [FAULTS, "stop", step, "--timeout", "3"]
    start = time.monotonic()
    ended = mpiexec.run(RANKS, argv, timeout=TIMEOUT, env=user_path(), cwd=tmp_path)
    assert ended.returncode not in (0, None), ended
    assert time.monotonic() - start < TIMEOUT / 2
    assert not ended.left_behind
    host = os.uname().nodename
    for rank, stands in ((0, step), (1, "gather" if step == "sum" else step)):
        where = f"rank {rank} of {RANKS} on {host} has been at '{stands}' for 3 s"
        assert where in ended.stderr
    assert "rank 2 of 3" not in ended.stderr
    assert left_in(tmp_path) == []


def test_ranks_that_cannot_see_each_other_report_why(tmp_path, forks):
    # What the launcher of the other MPI leaves in the environment.
    other = {
        "mpich": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"},
        "openmpi": {"PMI_SIZE": "4", "PMI_RANK": "0", "MPI_LOCALNRANKS": "4"},
    }
    maker = mpiexec.find_mpiexec()[1]
    if maker not in other:
        pytest.skip(f"no environment is known that misleads {maker}")
    ended = doctor(None, "--json", "reported.json", env=other[maker], cwd=tmp_path)
    assert ended.returncode == 2, ended
    finding = json.loads((tmp_path / "reported.json").read_text())["findings"][0]
    assert (finding["level"], finding["name"]) == ("fault", "singletons")
    assert "started 4 ranks" in finding["what"]
    assert "each is alone" in finding["what"]
    assert str(Path(sys.executable).with_name("mpiexec")) in finding["mend"]
    assert "may not start under the mpiexec of" in ended.stderr
    ended = forks.run("doctor", "nowhere.yaml", env=other[maker], cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert "fault: OMPI_COMM_WORLD_SIZE says that 4 ranks" in ended.stderr or (
        "fault: PMI_SIZE says that 4 ranks" in ended.stderr
    )
    assert "error: nowhere.yaml is neither" in ended.stderr


def test_mistakes_are_reported_once(tmp_path, forks):
    ended = doctor(RANKS, "nowhere.yaml", cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert ended.stderr.count("nowhere.yaml is neither a CONFIG") == 1
    saved = Path("nowhere") / "saved.json"
    ended = forks.run("doctor", "--json", saved, cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert f"--json: cannot write {saved}" in ended.stderr


def test_a_folder_that_cannot_be_written_to(tmp_path, forks):
    # Not even by root.
    ended = forks.run("doctor", "--run-dir", "/proc/self", cwd=tmp_path)
    assert ended.returncode == 2, ended
    assert "cannot write to /proc/self" in ended.stdout
