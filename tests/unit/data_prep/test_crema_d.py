"""CREMA-D's clone as it is described: the table, names of clips, wrong files."""

from collections import Counter

import numpy as np
import pytest
from scipy.io import wavfile

from data_prep.extractors import extractors
from data_prep.extractors._audio import filter_bank
from data_prep.extractors.base import BrokenItem
from data_prep.extractors.crema_d import CremaD
from data_prep.feature_extraction import extract
from data_prep.sources import sources
from fedapm_mpi.comm import Serial
from fedapm_mpi.errors import DataError
from tests.support.data import crema_d_archive as archive

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CLASSES = ("anger", "sadness", "happiness", "neutral")


class Shades:
    """In place of the image network: the mean of each image."""

    width = 1

    def __call__(self, images):
        return np.array([[np.asarray(image).mean()] for image in images], np.float32)


class Cheap(CremaD):
    """Features of films that take no network."""

    _network = Shades()

    def facts(self):
        return {}


def items(root, **options):
    return extractors.get("crema-d")(root, **options).items()


def test_all_clips_of_an_actor(tmp_path):
    """82 clips, as most actors have; of each emotion 12 or 14."""
    clips = archive.names()
    assert len(clips) == 2 * 82
    found = items(archive.table(tmp_path, archive.acted(clips)))
    assert found.classes == CLASSES
    kept = [name for name in clips if name[9:12] in ("ANG", "SAD", "HAP", "NEU")]
    assert found.names == tuple(sorted(kept))
    assert Counter(found.labels) == {0: 28, 1: 28, 2: 28, 3: 24}
    assert [CLASSES[label][0] for label in found.labels] == [
        {"ANG": "a", "SAD": "s", "HAP": "h", "NEU": "n"}[name[9:12]]
        for name in found.names
    ]
    assert Counter(found.clients) == {"1001": 54, "1002": 54}
    assert found.skipped == {}


def test_votes_decide_and_ties_are_left_out(tmp_path):
    votes = {
        "1001_DFA_ANG_XX": "N", "1001_DFA_HAP_XX": "H:N", "1001_DFA_SAD_XX": "F:N:S",
        "1001_DFA_FEA_XX": "S", "1001_DFA_DIS_XX": "D", "1001_DFA_NEU_XX": "A:D:H:N",
    }  # fmt: skip
    found = items(archive.table(tmp_path, votes))
    assert found.names == ("1001_DFA_ANG_XX", "1001_DFA_FEA_XX")
    assert [CLASSES[label] for label in found.labels] == ["neutral", "sadness"]
    assert found.skipped == {}


@pytest.mark.parametrize("form", ["fileName", "mark"])
def test_forms_of_the_table(tmp_path, form):
    """Its description has fileName, the file FileName."""
    votes = archive.acted(archive.names(("1001",)))
    expected = items(archive.table(tmp_path / "a", votes))
    header = [name.replace("FileName", "fileName") for name in archive.HEADER]
    options = {"mark": True} if form == "mark" else {"header": header}
    assert items(archive.table(tmp_path / "b", votes, **options)) == expected


def test_clips_whose_files_are_wrong(tmp_path):
    """Of the four that the description names, two have a vote and a sound to use."""
    archive.table(tmp_path, archive.NAMED)
    archive.clip(tmp_path, "1076_MTI_NEU_XX", shades=[50, 90, 90], film_rate=30)
    archive.clip(tmp_path, "1064_TIE_SAD_XX", shades=[70] * 18, film_rate=30)
    extractor = Cheap(tmp_path)
    found = extractor.items()
    assert found.names == ("1064_TIE_SAD_XX", "1076_MTI_NEU_XX")
    for name, shade in zip(found.names, (70, 50), strict=True):
        made = extractor.extract(name)
        np.testing.assert_allclose(made["video"], [[shade]], atol=3)
        sound = filter_bank(tmp_path / "AudioWAV" / f"{name}.wav", 600)
        np.testing.assert_array_equal(made["audio"], sound)


def test_a_clip_of_a_minute_is_cut(tmp_path):
    name = "1064_IEO_DIS_MD"
    archive.table(tmp_path, {name: "A"})
    shades = [4 * second for second in range(60) for _ in range(4)]
    archive.clip(tmp_path, name, seconds=60, shades=shades, film_rate=4)
    made = Cheap(tmp_path).extract(name)
    assert made["audio"].shape == (600, 80)
    found = made["video"][:, 0]
    np.testing.assert_allclose(found, 4 * np.arange(10), atol=3)


def test_a_sound_that_was_misnamed_until_2022_is_not_needed(tmp_path):
    """1040_ITH_SAD_X.wav: its viewers saw fear, which is no class."""
    archive.clip(tmp_path, "1040_ITH_SAD_X")
    archive.clip(tmp_path, "1040_ITH_HAP_XX")
    archive.table(tmp_path, {"1040_ITH_SAD_XX": "F", "1040_ITH_HAP_XX": "H"})
    extractor = Cheap(tmp_path)
    assert extractor.items().names == ("1040_ITH_HAP_XX",)
    with pytest.raises(BrokenItem, match=r"1040_ITH_SAD_XX\.wav can't be read"):
        extractor.extract("1040_ITH_SAD_XX")


@pytest.mark.parametrize("rate", [44_100, 8_000])
def test_sounds_of_another_rate(tmp_path, rate):
    votes = {"1001_DFA_ANG_XX": "A", "1001_DFA_SAD_XX": "S"}
    archive.table(tmp_path / "raw", votes)
    archive.clip(tmp_path / "raw", "1001_DFA_ANG_XX")
    archive.clip(tmp_path / "raw", "1001_DFA_SAD_XX", rate=rate)

    def run(to, **options):
        return extract(
            Serial(), Cheap(tmp_path / "raw", **options), tmp_path / to, identity={},
            skip_broken=bool(options), tell=lambda done, of: None,
        )  # fmt: skip

    message = rf"1001_DFA_SAD_XX: .*\.wav has {rate} samples a second, not 16000; leave"
    with pytest.raises(DataError, match=message):
        run("to")
    run("skip", skip_broken=True)
    source = sources.get("crema-d")(tmp_path / "skip", normalise="none")
    assert source.skipped == ("1001_DFA_SAD_XX",)
    audio = {c.spec.name: c for c in source.table.columns}["audio"]
    sound = filter_bank(tmp_path / "raw/AudioWAV/1001_DFA_ANG_XX.wav", 600)
    np.testing.assert_array_equal(audio.fetch(np.arange(1))[0], sound)
    assert wavfile.read(tmp_path / "raw/AudioWAV/1001_DFA_SAD_XX.wav")[0] == rate


@pytest.mark.parametrize("vote", ["", "X", "N;S", "n"])
def test_votes_that_are_none(tmp_path, vote):
    votes = {"1001_DFA_ANG_XX": "A", "1001_DFA_SAD_XX": vote}
    archive.table(tmp_path, votes)
    message = (
        rf"summaryTable\.csv, line 3, column 'MultiModalVote': 1001_DFA_SAD_XX has the "
        rf"vote '{vote}'; leave out all such clips with skip_broken=true"
    )
    with pytest.raises(DataError, match=message):
        items(tmp_path)
    found = items(tmp_path, skip_broken=True)
    assert found.names == ("1001_DFA_ANG_XX",)
    assert found.skipped == {"1001_DFA_SAD_XX": f"has the vote '{vote}'"}


def test_the_first_of_two_rows_counts_whatever_its_vote(tmp_path):
    rows = [
        ("1001_DFA_ANG_XX", "F"),
        ("1001_DFA_ANG_XX", "A"),
        ("1001_DFA_SAD_XX", "S"),
    ]
    archive.table(tmp_path, rows)
    message = r"line 3, column 'FileName': 1001_DFA_ANG_XX is listed twice; keep the fi"
    with pytest.raises(DataError, match=message):
        items(tmp_path)
    found = items(tmp_path, skip_broken=True)
    assert found.names == ("1001_DFA_SAD_XX",)
    assert found.skipped == {"1001_DFA_ANG_XX (again)": "is listed twice"}


@pytest.mark.parametrize(
    "name", ["1001", "1001_DFA_ANG", "_DFA_ANG_XX", "1001_DFA_ANG_XX_2", "../1_A_B_C"]
)
def test_names_that_are_no_clips(tmp_path, name):
    archive.table(tmp_path, {"1001_DFA_SAD_XX": "S", name: "A"})
    with pytest.raises(
        DataError, match=r"line 3, column 'FileName': .*names no speaker"
    ):
        items(tmp_path)
    # A clip that is not kept is not looked for.
    archive.table(tmp_path, {"1001_DFA_SAD_XX": "S", name: "F"})
    assert items(tmp_path).names == ("1001_DFA_SAD_XX",)


def test_a_row_that_is_cut_off(tmp_path):
    archive.table(tmp_path, {"1001_DFA_SAD_XX": "S"})
    table = tmp_path / "processedResults" / "summaryTable.csv"
    table.write_text(table.read_text() + '"2","1001_DFA_ANG_XX","N"\n')
    with pytest.raises(
        DataError, match=r"line 3: it has fewer columns .*; get CREMA-D"
    ):
        items(tmp_path)
