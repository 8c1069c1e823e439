"""A strong and a weak scaling study on real ranks: report, model, prediction, plan."""

import csv
import json

import pytest

from fedapm_mpi.cli import main as cli
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import TIMEOUT, digest_of, fedapm
from tests.support.scaling_study import laid_out, pretend, write_study

pytestmark = pytest.mark.slow

POINTS = [f"{kind}-{p}-0" for kind in ("strong", "weak") for p in (1, 2, 4)]


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory):
    """A study that has been run once, and how to run it again."""
    folder = tmp_path_factory.mktemp("scaling")
    changed = {"rounds": 6, "evaluation.every": 3, "dtype": "float64"}
    path = write_study(folder, toy["features"], overrides=changed, repetitions=1)
    out = folder / "out"

    words = ["scale", "run", str(path), "--out", str(out)]
    ended = mpiexec.run(None, fedapm(*words), timeout=2 * TIMEOUT)
    assert ended.returncode == 0, ended
    assert [line.split(":")[0] for line in ended.stdout.splitlines()[:6]] == [
        f"[{k}/6] {name}" for k, name in enumerate(POINTS, 1)
    ]
    return out, words


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_trained_and_agrees(study, capsys):
    out, _ = study
    assert len({digest_of(out / "points" / name) for name in POINTS[:3]}) == 1
    assert len({digest_of(out / "points" / name) for name in POINTS[3:]}) == 3
    # Two clients for each of four ranks are all there are.
    assert digest_of(out / "points" / "weak-4-0") == digest_of(
        out / "points" / "strong-1-0"
    )
    assert cli.main(["scale", "report", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "digests agree over all rank counts and repetitions" in printed
    found = rows(out / "report" / "scaling.csv")
    assert [f"{r['kind']}-{r['client_ranks']}-0" for r in found] == POINTS
    for row in found:
        assert float(row["seconds"]) > 0
        # Of medians, so that parts need not add up to the last bit.
        parts = sum(float(row[f"{name}_s"]) for name in ("work", "imbalance", "idle"))
        assert 0 < parts < 3 * float(row["seconds"])
        assert int(row["broadcast_bytes"]) == 56 * 8


def test_a_second_run_skips_what_is_finished(study, capfd):
    out, words = study
    before = {name: (out / "points" / name).stat().st_mtime_ns for name in POINTS}
    assert cli.main(words) == 0
    assert capfd.readouterr().out.count("finished before") == 6
    for name, time in before.items():
        assert (out / "points" / name).stat().st_mtime_ns == time


def test_a_model_and_what_it_predicts(study, capsys):
    out, _ = study
    words = ["scale", "model", str(out), "--predict", "16,10000"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert "Hold-out validation: predicted by a fit to the other points" in printed
    values = json.loads((out / "model" / "model.json").read_text())
    assert values["seconds"]["work"]["coefficients"]["q"] >= 0
    assert {one["case"] for one in values["held_out"]} == {"strong-4", "weak-4"}
    found = rows(out / "model" / "predictions.csv")
    asked = [(int(r["client_ranks"]), int(r["clients"])) for r in found]
    assert asked == [(16, 8), (10_000, 8), (16, 32), (10_000, 20_000)]
    for row in found:
        assert 0 < float(row["low"]) <= float(row["seconds"]) <= float(row["high"])
    assert cli.main([*words, "--clients", "100,1e6", "--ranks-per-node", "64"]) == 0
    found = rows(out / "model" / "predictions.csv")
    assert {int(r["clients"]) for r in found} == {100, 1_000_000}
    assert (out / "model" / "model.png").stat().st_size > 1000


def test_a_plan_for_another_machine(study, tmp_path, capsys):
    out, _ = study
    platform = tmp_path / "cluster.yaml"
    platform.write_text(
        "{nodes: 2, ranks_per_node: 4, latency_us: 100, bandwidth_GBps: 1.0e-6,"
        " clients: 50, rounds: 4}"
    )
    assert cli.main(["scale", "simulate", str(out), str(platform)]) == 0
    printed = capsys.readouterr().out
    assert "node-hours on 2 nodes" in printed
    found = rows(out / "simulate" / "cluster.csv")
    assert [int(r["round"]) for r in found] == [1, 2, 3, 4]
    # Eight ranks are three steps of a tree, of 448 bytes at a thousand a second.
    seconds = 3 * (1e-4 + 448 / 1000)
    assert float(found[0]["broadcast"]) == pytest.approx(seconds, rel=1e-5)
    assert float(found[0]["evaluation"]) == 0
    assert float(found[2]["evaluation"]) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model", "--predict", "many"], "--predict must be numbers above 0"),
        (["model", "--clients", "0"], "--clients must be numbers above 0"),
        (["model", "--ranks-per-node", "0"], "--ranks-per-node must be numbers"),
    ],
)
def test_numbers_that_are_none(study, capsys, words, message):
    assert cli.main(["scale", words[0], str(study[0]), *words[1:]]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{nodes: 1, ranks_per_node: 1, latency_us: 1, bandwidth_GBps: 1}", "one rank"),
        ("{nodes: 1, ranks_per_nod: 1}", "did you mean 'ranks_per_node'?"),
        (
            "{nodes: 1, ranks_per_node: 2, latency_us: 1, bandwidth_GBps: 0}",
            "bandwidth_GBps",
        ),
    ],
)
def test_platforms_that_are_none(study, tmp_path, capsys, text, message):
    path = tmp_path / "platform.yaml"
    path.write_text(text)
    assert cli.main(["scale", "simulate", str(study[0]), str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_tampered_digest_is_reported(study, capsys):
    out, _ = study
    path = out / "points" / "strong-2-0" / "final" / "digest.txt"
    text = path.read_text()
    path.write_text("0" * 64 + "\n")
    try:
        assert cli.main(["scale", "report", str(out)]) == 70
    finally:
        path.write_text(text)
    printed = capsys.readouterr().out.replace("\n", "")
    assert "000000000000 (strong-2-0)" in printed


def test_a_study_too_small_for_a_model(study, tmp_path, toy, capsys):
    _, points = laid_out(tmp_path, toy["features"], repetitions=1)
    pretend(points[0])
    assert cli.main(["scale", "model", str(tmp_path / "out")]) == 3
    assert "at least two finished points" in capsys.readouterr().err
