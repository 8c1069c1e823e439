"""The study of missing modalities: from its data sets to its table, in small."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.paper import modalities
from benchmarks.paper.runs import train as in_a_process
from benchmarks.paper.studies import STUDIES, Setting
from data_prep.pipeline import plan, prepare
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.analysis.run import read_config
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.training.runner import train

SMALL = {"name": "har", "filters": 2, "hidden": 4, "attention": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of the study's data sets of one seed, each of eight clients."""
    root = tmp_path_factory.mktemp("modalities")
    rng = np.random.default_rng(3)
    y = np.arange(160) % 2
    acc, gyro = rng.normal(size=(2, 160, 16, 3)) + y[:, None, None]
    raw = root / "raw.npz"
    np.savez(raw, x_acc=acc, x_gyro=gyro, y=y, client=np.arange(160) // 20)
    for kind in ("none", "client", "sample"):
        shift = {"shift": {"name": "missing", "by": kind}} if kind != "none" else {}
        values = {"test": 0.2, "seed": 1, **shift}
        prepare(plan("arrays", values), raw, root / f"hapt-missing-{kind}-s1")
    return root


def one_process():
    """Return what trains one run as the study does, the others in this process."""
    started = []

    def trained(config, run, ranks=0):
        if not started:
            started.append(run)
            return in_a_process(config, run, ranks)
        run.parent.mkdir(parents=True, exist_ok=True)
        checked = validate(config, "test")
        return train(Serial(), checked, directory=run, progress="none") == 0

    return trained


def test_the_study(data, tmp_path, monkeypatch, capsys):
    study = replace(STUDIES["hapt"], model=SMALL, clients=8, rounds=2, batch_size=8)
    monkeypatch.setitem(modalities.STUDIES, "hapt", study)
    monkeypatch.setattr(modalities, "train", one_process())
    words = ["--data", data, "--out", tmp_path / "runs", "--to", tmp_path / "to"]
    words += ["--methods", "fedapm-participants", "local", "--seeds", 1]
    words += ["--variants", "skipped", "groups"]
    modalities.main([str(word) for word in words])
    text = (tmp_path / "to/modalities/modalities.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [r["modalities"] for r in rows] == ["skipped"] * 2 + ["groups"] * 2
    table = (tmp_path / "to/modalities/modalities.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    digests = {row["digest"] for row in rows}
    assert len(digests) == len(rows)
    for row, line in zip(rows, table[2:], strict=True):
        assert f"{float(row['accuracy_last']):.3f}" in line
    lacking = read_manifest(data / "hapt-missing-client-s1").lacking
    assert lacking["gyro"]
    run = tmp_path / "runs/modalities/groups/fedapm-participants/seed-1"
    assert read_config(run).partially_shared == ["acc_rnn.*", "gyro_rnn.*"]
    for i in range(8):
        names = {n for n, _ in load_client_model(run, i).named_parameters()}
        for name in ("acc", "gyro"):
            has = any(n.startswith(f"{name}_") for n in names)
            assert has == (i not in lacking.get(name, ()))


@pytest.mark.parametrize("variant", modalities.DATA)
@pytest.mark.parametrize("method", modalities.COMPARED)
def test_every_run_is_a_valid_configuration(variant, method):
    setting = Setting(0.1, 0.03)
    config = modalities.experiment(variant, method, setting, "data", 2)
    assert validate(config, "test").data.endswith("-s2")
