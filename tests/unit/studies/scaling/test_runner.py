"""How the points of a study are run."""

import sys
import time

import pytest

from fedapm_mpi.studies.scaling import runner as running
from tests.support.scaling_study import laid_out, pretend


@pytest.fixture
def pretended(tmp_path, toy, monkeypatch):
    """Two points whose runs are little programs: a function that runs them."""
    study, points = laid_out(
        tmp_path, toy["features"], weak=None, strong={"client_ranks": [1]}
    )

    def run(program):
        code = "import os, sys, pathlib, time\nrun = pathlib.Path(sys.argv[1])\n"
        code += "done = lambda: ((run / 'final').mkdir(parents=True), "
        code += "(run / 'final' / 'digest.txt').touch())\n" + program

        def command(study, ranks, words):
            run = words[3] if words else ""
            return [sys.executable, "-c", code, run]

        monkeypatch.setattr(running, "_command", command)
        running.run_points(study, points)

    run.points = points
    return run


def test_points_are_run_once_and_a_begun_one_starts_afresh(pretended, capsys):
    first, second = pretended.points
    pretend(first)
    second.run.mkdir(parents=True)
    (second.run / "old").touch()
    pretended("assert not run.exists(); done(); print('hello')")
    assert capsys.readouterr().out.splitlines()[0].endswith("finished before")
    assert second.log.read_text() == "hello\n"
    assert not first.log.exists()
    assert not (second.run / "old").exists()


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("print('fedapm: error: no room'); sys.exit(3)", 3, r"failed \(no room\); see"),
        ("os.kill(os.getpid(), 9)", 70, "strong-1-0 failed; see"),
        ("pass", 70, "strong-1-0 failed; see"),
        ("sys.exit(75)", 75, "stopped in strong-1-0"),
    ],
)
def test_a_point_that_fails_ends_the_study_with_its_code(
    pretended, program, code, words
):
    with pytest.raises(running.PointError, match=words) as caught:
        pretended(program)
    assert caught.value.exit_code == code
    assert not pretended.points[1].log.exists()


def test_a_wish_to_stop_is_passed_on(pretended):
    program = "import signal\n"
    program += "signal.signal(signal.SIGTERM, lambda *a: sys.exit(75))\n"
    program += "os.kill(os.getppid(), signal.SIGTERM)\ntime.sleep(60)"
    begin = time.monotonic()
    with pytest.raises(running.PointError, match="stopped in strong-1-0") as caught:
        pretended(program)
    assert caught.value.exit_code == 75
    assert time.monotonic() - begin < 30
