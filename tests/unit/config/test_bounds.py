"""What is refused before it is counted out, built or trained."""

import time
from pathlib import Path

import pytest
import yaml

from fedapm_mpi.cli.main import main
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.participation import participation
from fedapm_mpi.studies.scaling import study
from fedapm_mpi.studies.sweep.grid import MAX_CELLS, Sweep, read_sweep
from tests.support.processes.cli_runs import experiment, write_config
from tests.unit.config.test_loader import VALID, changed, errors_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "base.yaml", experiment(tmp_path / "toy"))
    return tmp_path


def written(**values):
    Path("s.yaml").write_text(yaml.safe_dump({"config": "base.yaml"} | values))
    return Path("s.yaml")


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"grid": {f"k{i}": list(range(10)) for i in range(9)}}, 10**9),
        ({"grid": {f"k{i}": list(range(10)) for i in range(5)}}, 10**5),
        ({"zip": {"seed": list(range(10_001))}}, 10_001),
        ({"grid": {"a": list(range(101))}, "zip": {"b": list(range(100))}}, 10_100),
    ],
)
def test_cells_are_counted_before_they_are_made(folder, values, count):
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=f"{count} cells are more than the 10000"):
        read_sweep(written(**values))
    assert time.monotonic() - begun < 5


def test_a_sweep_counts_its_cells():
    sweep = Sweep(config="c", grid={"a": [1, 2], "b": [1, 2, 3]}, zip={"c": [1, 2]})
    assert sweep.count == len(sweep.cells()) == 12
    assert Sweep(config="c", zip={"a": [1, 2]}).count == 2
    many = Sweep(config="c", grid={"seed": list(range(MAX_CELLS))})
    assert many.count == MAX_CELLS


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"strong": {"client_ranks": [1, 2]}, "repetitions": 10**9}, "2000000000 runs"),
        ({"strong": {"client_ranks": list(range(1, 20_000))}}, "has 19999 values"),
        ({"strong": {"client_ranks": [1, 1]}}, "has a value twice"),
        (
            {"size": {"client_ranks": 1, "key": "a", "values": list(range(9000))}},
            "27000 runs, with 3 repetitions",
        ),
    ],
)
def test_runs_of_a_study_are_counted_before_they_are_made(folder, values, expected):
    with pytest.raises(ConfigError, match=expected):
        study.load(written(**values))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"name": "probability", "probability": 0}, "above 0 for at least one client"),
        (
            {"name": "probability", "probability": 0.0},
            "above 0 for at least one client",
        ),
        (
            {"name": "probability", "probability": [0, 0]},
            "above 0 for at least one client",
        ),
        ({"name": "probability", "probability": []}, "above 0 for at least one client"),
        ({"name": "probability", "probability": -0.1}, "in [0, 1]"),
        ({"name": "probability", "probability": True}, "valid number"),
        ({"name": "probability", "probability": "0.5"}, "valid number"),
        ({"name": "probability", "probability": float("nan")}, "finite number"),
        ({"name": "random", "fraction": 0}, "fraction must be in (0, 1], got 0"),
        ({"name": "random", "fraction": 1.5}, "fraction must be in (0, 1]"),
        ({"name": "random", "count": 0}, "count must be at least 1, got 0"),
        ({"name": "random", "count": 1.0}, "count: input should be a valid integer"),
        ({"name": "random"}, "exactly one of fraction, count"),
    ],
)
def test_a_participation_in_which_no_client_takes_part_is_refused(part, expected):
    assert expected in errors_of(changed(participation=part))


def test_some_clients_may_never_take_part():
    part = {"name": "probability", "probability": [0, 0.5]}
    found = validate(changed(participation=part), "x").participation
    assert found["probability"] == [0, 0.5]
    with pytest.raises(ValueError, match="at least one client"):
        participation.get("probability")(probability=0)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rounds": 0}, "rounds"),
        ({"clients": 0}, "clients"),
        ({"evaluation": {"every": 0}}, "evaluation.every"),
        ({"diagnostics": {"every": 0}}, "diagnostics.every"),
        ({"checkpoint": {"every": 0}}, "checkpoint.every"),
        ({"split": {"first": 0}}, "split.first"),
    ],
)
def test_none_of_something_is_refused(values, key):
    reported = errors_of(changed(**values))
    assert f"{key}: input should be greater than or equal to 1, got 0" in reported


@pytest.mark.parametrize("key", ["data", "initial_model", "scratch", "stage_dir"])
def test_a_path_with_nul_is_refused(key):
    assert f"{key}: no path holds the character NUL" in errors_of(
        changed(**{key: "a\0b"})
    )


def test_more_threads_than_memory_holds_are_refused():
    reported = errors_of(changed(threads=10**9))
    assert (
        "threads: input should be less than or equal to 1024, got 1000000000"
        in reported
    )
    assert validate(changed(threads="auto"), "x").threads == "auto"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["bse.yaml"], "bse.yaml: No such file or directory; did you mean 'base.yaml'"),
        (["no/c.yaml"], "no/c.yaml: No such file or directory"),
        (["toy"], "toy is a prepared data set, not a configuration; name a YAML file"),
        (["run"], "run is a run directory, not a configuration; continue the run by"),
        (["empty"], "empty is a folder, not a configuration; name a YAML file"),
        (["x.npz"], "x.npz is not valid YAML: line 1: this is not UTF-8 text"),
        ([], "name a CONFIG file, or a run to continue by --resume RUN"),
        (["rounds=3"], "name a CONFIG file"),
        (["base.yaml", "rounds"], "override 'rounds' is not of the form key=value"),
        (["base.yaml", "run"], "override 'run' is not of the form key=value"),
        (["--resume", "base.yaml"], "no run of this experiment in runs"),
        (["--resume", "no-run"], "--resume: no-run is not a run directory"),
        (["--resume", "empty"], "name a CONFIG file, or a run to continue"),
        (["--resume", "x" * 100_000], "(100000 characters) is not a run directory"),
        (["x" * 100_000], "cannot read the configuration"),
        (["base.yaml", "rounds=yes"], "rounds: input should be a valid integer"),
    ],
)
def test_what_is_no_configuration_is_reported(folder, capsys, words, expected):
    for name in ("toy", "run", "empty"):
        (folder / name).mkdir()
    (folder / "toy" / "manifest.json").write_text("{}")
    (folder / "run" / "config.yaml").write_text(yaml.safe_dump(VALID))
    (folder / "x.npz").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    assert main(["train", *words]) == 2
    found = capsys.readouterr().err
    assert expected in found
    assert len(found) < 500
