"""What the doctor's findings come to: their order, their exit code, their forms."""

from dataclasses import replace

from fedapm_mpi.doctor.checks import run_checks
from fedapm_mpi.doctor.findings import (
    Finding,
    Observations,
    exit_code,
    names,
    numbers,
)
from tests.support.invented_ranks import rank, ranks


def test_exit_codes():
    fault, warning = Finding("fault", "", "", ""), Finding("warning", "", "", "")
    of_data = Finding("fault", "", "", "", "data")
    assert exit_code([warning]) == 0
    assert exit_code([of_data, warning]) == 3
    assert exit_code([of_data, fault]) == 2


def test_the_worst_comes_first():
    some = [*ranks(launched=6)[:5], rank(5, source="xyz", memory_free=None)]
    levels = [one.level for one in run_checks(Observations(ranks=some, clocks=[0] * 6))]
    assert levels == ["fault"]
    some = [replace(one, memory_free=None) for one in some]
    levels = [one.level for one in run_checks(Observations(ranks=some))]
    assert levels == ["fault", "warning"]


def test_short_forms():
    assert numbers([5, 0, 2, 1]) == "0-2, 5"
    assert numbers([]) == "–"
    assert names(["a", "b", "a"]) == "a, b"
    assert names("abcdef") == "a, b, c, d and 2 more"
