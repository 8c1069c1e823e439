"""CrisisMMD's two kinds of tables, with what their description names."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.extractors import extractors
from data_prep.extractors._crisismmd_tables import read_rows
from data_prep.extractors.crisismmd import CLASSES, CrisisMMD, plain
from data_prep.feature_extraction import extract
from data_prep.images import eight_bits
from data_prep.pipeline import plan, prepare
from data_prep.sources import sources
from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import ConfigError, DataError
from tests.support.data import crisismmd_archive as archive

SPLITS = {"train": 0, "test": 1, "dev": 2}


class Shades:
    """In place of both networks: the mean of an image, and the length of a text."""

    width = 1

    def __call__(self, given):
        if isinstance(given, str):
            return np.full((1, 1), len(given), np.float32)
        return np.array([[np.asarray(image).mean()] for image in given], np.float32)


class Cheap(CrisisMMD):
    """Features that take no network."""

    _of_image = _of_text = Shades()

    def facts(self):
        return {}


def items(root, **options):
    return extractors.get("crisismmd")(root, **options).items()


def features(root, to, **options):
    extract(Serial(), Cheap(root, **options), to, identity={}, skip_broken=False,
            tell=lambda done, of: None)  # fmt: skip
    return to


def by_name(found, values):
    return dict(zip(found.names, values, strict=True))


@pytest.mark.parametrize("form", ["all", "agreed", "annotations"])
def test_every_form_has_the_same_items(tmp_path, form):
    given = archive.items()
    if form == "annotations":
        archive.annotations(tmp_path, given)
    else:
        archive.splits(tmp_path, given, {"all": "", "agreed": "agreed_lab_"}[form])
    found = items(tmp_path, tables=form)
    assert found.names == tuple(sorted(item.name for item in given))
    assert len(found.names) == 7 * 6
    assert by_name(found, found.labels) == {
        item.name: CLASSES.index(item.human) for item in given
    }
    assert by_name(found, found.clients) == {item.name: item.event for item in given}
    assert by_name(found, found.groups) == {item.name: item.tweet for item in given}
    assert by_name(found, found.payload) == {
        item.name: (item.path, plain(item.text)) for item in given
    }
    assert found.skipped == {}
    if form == "annotations":
        assert found.splits is None
    else:
        assert by_name(found, found.splits) == {
            item.name: SPLITS[archive.split_of(item)] for item in given
        }


def test_the_informative_task_has_a_column_of_its_own(tmp_path):
    given = archive.not_asked(archive.items(), 5)
    archive.annotations(tmp_path, given)
    found = items(tmp_path, tables="annotations", task="informative")
    assert by_name(found, found.labels) == {
        item.name: int(item.info == "informative") for item in given
    }
    # Of 42 items, the first five and every fourth are not informative.
    assert found.labels.count(1) == 42 - 5 - 9


def test_annotations_are_read_on_wish_alone(tmp_path):
    """Where a table of a split is missing, others are not taken in its place."""
    given = archive.items()
    archive.annotations(archive.splits(tmp_path, given), given)
    assert items(tmp_path).splits is not None
    folder = tmp_path / "crisismmd_datasplit_all"
    (folder / "task_humanitarian_text_img_dev.tsv").unlink()
    with pytest.raises(DataError, match=r"img_dev\.tsv \(it is .*to the archive$"):
        items(tmp_path)
    for table in folder.iterdir():
        table.unlink()
    with pytest.raises(DataError, match="without splits: set tables=annotations"):
        items(tmp_path)
    assert items(tmp_path, tables="annotations").names


def test_annotations_that_are_not_there(tmp_path):
    archive.splits(tmp_path, archive.items())
    message = r"annotations/hurricane_irma_final_data\.tsv; --from is the folder that"
    with pytest.raises(DataError, match=message):
        items(tmp_path, tables="annotations")
    # Next to the folder, too.
    archive.annotations(tmp_path, archive.items())
    (tmp_path / "CrisisMMD_v2.0").mkdir()
    assert len(items(tmp_path / "CrisisMMD_v2.0", tables="annotations").names) == 42


@pytest.mark.parametrize("more", ["", "agreed_lab_"])
def test_events_of_a_split_are_clients(tmp_path, more):
    given = archive.items(12)
    root = archive.splits(tmp_path / "raw", given, more)
    archive.images(root, given)
    origin = features(root, tmp_path / "features")
    manifest, _ = prepare(
        plan("crisismmd", {"client": "event"}), origin, tmp_path / "to"
    )
    assert manifest.client_names == archive.EVENTS
    for part, split in (("train", "train"), ("test", "test"), ("val", "dev")):
        assert manifest.counts[part].tolist() == [
            sum(i.event == e and archive.split_of(i) == split for i in given)
            for e in archive.EVENTS
        ]


def test_events_of_annotations_are_clients(tmp_path):
    given = archive.items(9)
    root = archive.annotations(tmp_path / "raw", given)
    shades = archive.images(root, given)
    origin = features(root, tmp_path / "features", tables="annotations")
    wanted = plan("crisismmd", {"client": "event", "test": 0.4})
    manifest, _ = prepare(wanted, origin, tmp_path / "to")
    assert manifest.client_names == archive.EVENTS
    sums = manifest.counts["train"] + manifest.counts["test"]
    assert sums.tolist() == [9] * 7
    assert manifest.counts["test"].min() > 0
    source = sources.get("crisismmd")(origin, client="event")
    assert source.split is None
    assert source.default_split == "random"
    assert len(set(source.groups.tolist())) == 7 * 6  # 3 of 9 items share a tweet
    column = {c.spec.name: c for c in source.table.columns}["image"]
    names = sorted(item.name for item in given)
    np.testing.assert_allclose(
        column.fetch(np.arange(63))[:, 0], [shades[n] for n in names], atol=2
    )
    with pytest.raises(ConfigError, match="client=event makes"):
        prepare(plan("crisismmd", {}), origin, tmp_path / "none")
    own = plan("crisismmd", {"client": "event", "split": "own"})
    with pytest.raises(ConfigError, match="own"):
        prepare(own, origin, tmp_path / "own")


def test_images_whose_paths_begin_below_data_image(tmp_path):
    """As the description has it; the tables begin with data_image."""
    given = archive.items(4)
    root = archive.annotations(tmp_path, given, below_images=True)
    shades = archive.images(root, given)
    extractor = Cheap(root, tables="annotations")
    found = extractor.items()
    payload = by_name(found, found.payload)
    for item in given:
        image, text = payload[item.name]
        assert image == item.path.removeprefix("data_image/")
        made = extractor.extract((image, text))
        assert made["image"][0] == pytest.approx(shades[item.name], abs=2)
        assert made["text"][0, 0] == len(plain(item.text))
    assert eight_bits(root / given[0].path).size == (12, 12)


@pytest.mark.parametrize(
    "options",
    [{"mark": True}, {"resource_forks": True}, {"line_end": "\r\n"}],
    ids=lambda options: next(iter(options)),
)
def test_forms_of_the_annotations_files(tmp_path, options):
    given = archive.items()
    archive.annotations(tmp_path / "a", given)
    archive.annotations(tmp_path / "b", given, **options)
    plain_ones = items(tmp_path / "a", tables="annotations")
    assert items(tmp_path / "b", tables="annotations") == plain_ones


def test_a_mark_before_the_first_column_of_a_split(tmp_path):
    archive.splits(tmp_path, archive.items(), mark=True)
    assert set(items(tmp_path).clients) == set(archive.EVENTS)


def test_items_that_were_not_asked_for_are_left_out(tmp_path):
    given = archive.not_asked(archive.items(), 4)
    archive.annotations(tmp_path, given)
    found = items(tmp_path, tables="annotations")
    assert found.skipped == {
        item.name: "has no label: the question was not asked" for item in given[:4]
    }
    assert len(found.names) == 38
    # In a table of a split each item has a label.
    archive.splits(tmp_path, given)
    with pytest.raises(DataError, match=r"column 'label_image': .* has the label ''"):
        items(tmp_path)


def test_labels_of_version_1_that_are_no_classes(tmp_path):
    given = archive.before_two(archive.items(), 2)
    archive.annotations(tmp_path, given)
    for task, column, label in (
        ("humanitarian", "image_human", "not_relevant_or_cant_judge"),
        ("informative", "image_info", "dont_know_or_cant_judge"),
    ):
        options = {"tables": "annotations", "task": task}
        message = (
            rf"california_wildfires_final_data\.tsv, line 2, column '{column}': "
            rf"{given[0].name} has the label '{label}'; leave out .*skip_broken=true"
        )
        with pytest.raises(DataError, match=message):
            items(tmp_path, **options)
        found = items(tmp_path, skip_broken=True, **options)
        assert set(found.skipped) == {given[0].name, given[1].name}
        assert len(found.names) == 40


def test_an_item_of_two_events(tmp_path):
    given = archive.items()
    given.append(replace(given[0], event="srilanka_floods"))
    archive.annotations(tmp_path, given)
    message = (
        rf"srilanka_floods_final_data\.tsv, line 8, column 'image_human': "
        rf"{given[0].name} is listed 2 times"
    )
    with pytest.raises(DataError, match=message):
        items(tmp_path, tables="annotations")
    found = items(tmp_path, tables="annotations", skip_broken=True)
    assert list(found.skipped) == [f"{given[0].name} (again)"]
    assert by_name(found, found.clients)[given[0].name] == "california_wildfires"


def test_a_tab_in_a_text_shifts_no_column(tmp_path):
    """Read by position, its label would be that of another column."""
    given = archive.items(4)
    given[5] = replace(given[5], text="help\tneeded")
    archive.splits(tmp_path, given)
    message = rf"line \d+, .*: {given[5].name} has 10 columns, not 9; .*skip_broken"
    with pytest.raises(DataError, match=message):
        items(tmp_path)
    found = items(tmp_path, skip_broken=True)
    assert found.skipped == {given[5].name: "has 10 columns, not 9"}
    assert len(found.names) == 27


def test_an_empty_column_at_the_end_is_none(tmp_path):
    given = archive.items(4)
    archive.annotations(tmp_path, given, line_end="\t\n")
    # The first line has it too; with a line of its own less, it is one more than named.
    for table in (tmp_path / "annotations").iterdir():
        table.write_bytes(table.read_bytes().replace(b"\t\n", b"\n", 1))
    assert len(items(tmp_path, tables="annotations").names) == 28


def test_a_text_over_several_lines_and_the_lines_after_it(tmp_path):
    given = archive.items(4, archive.EVENTS[:1])
    given[1] = replace(given[1], text='"two ""short""\nlines"')
    given[0] = replace(given[0], text="plain")
    given[3] = replace(given[3], human="meteorite", text="plain")
    archive.annotations(tmp_path, given)
    rows = read_rows(tmp_path, "humanitarian", "annotations")
    assert rows[1].text == 'two "short"\nlines'
    assert [row.where.split(", ")[1] for row in rows] == [
        "line 2", "line 3", "line 5", "line 6",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"line 6, .* has the label 'meteorite'"):
        items(tmp_path, tables="annotations")


@pytest.mark.parametrize("column", ["tweet_id", "image_human", "image_path"])
def test_a_missing_column_of_annotations_is_named(tmp_path, column):
    archive.annotations(tmp_path, archive.items())
    table = tmp_path / "annotations" / "mexico_earthquake_final_data.tsv"
    table.write_text(table.read_text().replace(column, "other", 1))
    message = rf"mexico_earthquake_final_data\.tsv has no column '{column}'; get the"
    with pytest.raises(DataError, match=message):
        items(tmp_path, tables="annotations")


def test_a_short_row_of_annotations_is_named(tmp_path):
    archive.annotations(tmp_path, archive.items())
    table = tmp_path / "annotations" / "mexico_earthquake_final_data.tsv"
    table.write_text(table.read_text() + "917791291823591999\t917791291823591999_0\n")
    message = r"mexico_earthquake_final_data\.tsv, line 8: it has fewer columns than"
    with pytest.raises(DataError, match=message):
        items(tmp_path, tables="annotations", skip_broken=True)
