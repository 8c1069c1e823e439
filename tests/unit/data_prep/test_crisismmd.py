"""CrisisMMD's tables in both of their forms, and its events as clients."""

import json

import numpy as np
import pytest

from data_prep.extractors import extractors
from data_prep.extractors.crisismmd import CLASSES, CrisisMMD
from data_prep.feature_extraction import extract
from data_prep.pipeline import plan, prepare
from fedapm_mpi.cli.extract import _deciding
from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.data import archives

EVENTS = ("hurricane_harvey", "mexico_earthquake", "srilanka_floods")
SIZES = {"train": 18, "dev": 6, "test": 9}


class Cheap(CrisisMMD):
    """Features that take no network."""

    inputs = {"image": (None, 2), "text": (3, 2)}  # noqa: RUF012

    def facts(self):
        return {}

    def extract(self, payload):
        number = float(payload[0].split("/")[-1])
        return {"image": np.full(2, number), "text": np.full((2, 2), number)}


def write(root, more="", task="humanitarian", labels=CLASSES, first=0, **columns):
    """Write three tables, items of which are numbered from `first`."""
    folder = root / f"tables_{more}{task}"
    folder.mkdir(parents=True)
    number = first
    for split, size in SIZES.items():
        rows = []
        for _ in range(size):
            event = columns.get("events", EVENTS)[number % 3]
            label = labels[number % len(labels)]
            rows.append([event, str(number), f"{number}_0", "help", f"i/{number}",
                         label, label, label, "Positive"])  # fmt: skip
            number += 1
        archives.tweets(folder / f"task_{task}_text_img_{more}{split}.tsv", rows)
    return root


def items(root, **options):
    return extractors.get("crisismmd")(root, **options).items()


def features(root, to, **options):
    extract(Serial(), Cheap(root, **options), to, identity={}, skip_broken=False,
            tell=lambda done, of: None)  # fmt: skip
    return to


def test_agreed_tables_are_found(tmp_path):
    found = items(write(tmp_path, "agreed_lab_"))
    assert len(found.names) == sum(SIZES.values())
    assert np.bincount(found.splits).tolist() == [18, 9, 6]
    assert found.classes == CLASSES
    by_number = dict(zip(found.names, found.labels, strict=True))
    assert by_number["10_0"] == 10 % 8
    # Next to the folder, too.
    (tmp_path / "CrisisMMD_v2.0").mkdir()
    assert items(tmp_path / "CrisisMMD_v2.0") == found


def test_the_informative_task(tmp_path):
    two = ("not_informative", "informative")
    root = write(tmp_path, "agreed_lab_", "informative", two)
    found = items(root, task="informative")
    assert found.classes == two
    assert sorted(set(found.labels)) == [0, 1]
    with pytest.raises(DataError, match=r"train\.tsv .* or a .*: set task=inform"):
        items(root)


def test_both_forms_and_which_is_read(tmp_path):
    write(tmp_path)
    write(tmp_path, "agreed_lab_", first=100)
    for asked, first in ((None, "0_0"), ("all", "0_0"), ("agreed", "100_0")):
        assert items(tmp_path, tables=asked).names[0] == first
    # Never some tables of one and some of the other.
    (tmp_path / "tables_humanitarian/task_humanitarian_text_img_dev.tsv").unlink()
    assert items(tmp_path).names[0] == "100_0"
    with pytest.raises(DataError, match=r"img_dev\.tsv \(it is in .*_all\.zip\)"):
        items(tmp_path, tables="all")


def test_one_missing_table_is_named(tmp_path):
    write(tmp_path, "agreed_lab_")
    folder = tmp_path / "tables_agreed_lab_humanitarian"
    (folder / "task_humanitarian_text_img_agreed_lab_test.tsv").unlink()
    with pytest.raises(DataError, match="a task_humanitarian") as caught:
        items(tmp_path)
    assert (
        "img_agreed_lab_test.tsv (it is in crisismmd_datasplit_agreed_label.zip)"
        in (str(caught.value))
    )


@pytest.mark.parametrize("more", ["", "agreed_lab_"])
def test_events_are_clients_on_wish(tmp_path, more):
    origin = features(write(tmp_path / "raw", more), tmp_path / "features")
    manifest, _ = prepare(
        plan("crisismmd", {"client": "event"}), origin, tmp_path / "a"
    )
    assert manifest.client_names == EVENTS
    assert manifest.counts["train"].tolist() == [6, 6, 6]
    assert manifest.counts["test"].tolist() == [3, 3, 3]
    assert manifest.counts["val"].tolist() == [2, 2, 2]
    assert manifest.preparation["source"] == {"name": "crisismmd", "client": "event"}
    hint = r"names no clients.*, or: client=event makes"
    with pytest.raises(ConfigError, match=hint):
        prepare(plan("crisismmd", {}), origin, tmp_path / "b")
    natural = {"partitioner": {"name": "natural"}}
    with pytest.raises(ConfigError, match=hint):
        prepare(plan("crisismmd", natural), origin, tmp_path / "b")
    drawn = {"partitioner": {"name": "iid"}, "clients": 2}
    manifest, _ = prepare(plan("crisismmd", drawn), origin, tmp_path / "c")
    assert manifest.client_names == ("client 0", "client 1")
    # As before there was the choice.
    assert manifest.preparation["source"] == {"name": "crisismmd"}


def test_features_without_events(tmp_path):
    origin = features(write(tmp_path / "raw"), tmp_path / "features")
    said = json.loads((origin / "features.json").read_text())
    assert said.pop("clients")[:2] == [EVENTS[0], EVENTS[1]]
    (origin / "features.json").write_text(json.dumps(said))
    wanted = plan("crisismmd", {"client": "event"})
    with pytest.raises(DataError, match=r"'fedapm extract crisismmd' again adds them"):
        prepare(wanted, origin, tmp_path / "to")
    features(tmp_path / "raw", origin)
    assert prepare(wanted, origin, tmp_path / "to")[0].num_clients == 3


def test_items_without_an_event(tmp_path):
    root = write(tmp_path / "raw", events=(EVENTS[0], "", EVENTS[2]))
    origin = features(root, tmp_path / "features")
    with pytest.raises(DataError, match="11 of 33 items have no event"):
        prepare(plan("crisismmd", {"client": "event"}), origin, tmp_path / "to")


def test_folders_begun_before_there_was_a_choice_are_known(tmp_path):
    """Options at their defaults are not part of what was asked for."""
    before = {"skip_broken": False, "tokens": 512}
    default = before | {"task": "humanitarian", "tables": None}
    assert _deciding(Cheap(tmp_path), default) == before
    other = before | {"task": "informative", "tables": "agreed"}
    assert _deciding(Cheap(tmp_path), other) == other
