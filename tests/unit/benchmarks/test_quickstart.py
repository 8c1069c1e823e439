"""The benchmark of the quickstart: what it compares, and how it adds up."""

import json
import re
from math import sqrt
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quickstart
from data_prep.sources import watch
from fedapm_mpi.config.loader import load
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.utils.atomic_io import file_sha256
from tests.unit.data_prep.test_sources import watch_data


def rows(accuracies):
    """Return rows of two seeds and one level, by method."""
    values = dict.fromkeys(quickstart.HEADER, "0.5")
    return [
        {**values, "level": "native", "seed": str(seed), "method": method,
         "accuracy": str(value)}
        for method, pair in accuracies.items() for seed, value in enumerate(pair)
    ]  # fmt: skip


def test_differences_are_paired_by_seed():
    made = quickstart.table(
        rows({"FedAPM": (0.8, 0.9), "FedAvg-FT": (0.7, 0.7), "local-only": (0.8, 0.9)})
    )
    ours, tuned, alone = made.splitlines()[2:]
    deviation = sqrt(((0.8 - 0.85) ** 2 + (0.9 - 0.85) ** 2) / 1)
    assert f"| 0.850 ± {deviation:.3f} |" in ours
    # Differences 0.1 and 0.2: mean 0.15, standard error of the mean 0.05.
    assert tuned.endswith("| +0.150 ± 0.050 (3.0 standard errors) |")
    assert alone.endswith("| +0.000 ± 0.000 |")
    assert ours.endswith("|  |")


def test_levels_are_apart():
    low = [{**row, "level": "avx2", "accuracy": "0.1"} for row in rows(
        {"FedAPM": (0.8, 0.9), "FedAvg-FT": (0.7, 0.7), "local-only": (0.8, 0.9)}
    )]  # fmt: skip
    made = quickstart.table(low).splitlines()
    assert len(made) == 2 + 3
    assert all("| avx2 |" in line and "0.100 ± 0.000" in line for line in made[2:])


def test_the_script_prepares_the_same_data():
    script = (quickstart.LAUNCH / "quickstart").read_text("utf-8")
    command = re.search(r"prepare watch (.*?)\n\n", script.replace("\\\n", ""), re.S)
    words = [word for word in command[1].split() if "=" in word]
    assert words == [*quickstart.PREPARE, "seed=1"]
    for file in quickstart.METHODS.values():
        assert f"train launch/{file} " in script
        config = load(quickstart.LAUNCH / file)
        assert config.seed == 1
        assert f"--to data/{Path(config.data).name} " in command[1]


@pytest.mark.parametrize("all_labels", [False, True])
def test_a_seed_draws_its_own_labels(tmp_path, monkeypatch, all_labels):
    many = watch_data([900] * 4)
    np.save(tmp_path / watch.FILE, np.array(many, dtype=object), allow_pickle=True)
    monkeypatch.setattr(watch, "SHA256", file_sha256(tmp_path / watch.FILE))
    words = [w for w in quickstart.PREPARE if "per_client" not in w]
    monkeypatch.setattr(quickstart, "PREPARE", [*words, "keep.per_client=3"])
    one, two = (
        read_manifest(
            quickstart.data_of(tmp_path, tmp_path / "out", s, all_labels=all_labels)
        )
        for s in (1, 2)
    )
    for manifest in (one, two):
        few = set(manifest.counts["train"].tolist()) == {3}
        assert few is not all_labels
    np.testing.assert_array_equal(one.counts["test"], two.counts["test"])
    assert (one.files[0].sha256 == two.files[0].sha256) is all_labels


def test_a_run_becomes_a_row(tmp_path):
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "digest.txt").write_text("abc  final\n")
    part = {"last": 0.5, "last_worst_decile": 0.25, "mean_of_last_ten": 0.75}
    text = json.dumps(dict.fromkeys(quickstart.METRICS, part))
    (tmp_path / "summary.json").write_text(text)
    row = quickstart.row_of(tmp_path, "avx2", 3, "FedAPM")
    found = dict(zip(quickstart.HEADER, row, strict=True))
    assert found["accuracy_worst_decile"] == 0.25
    assert found["accuracy_mean_of_last_ten"] == 0.75
    assert (found["level"], found["seed"], found["digest"]) == ("avx2", 3, "abc")
