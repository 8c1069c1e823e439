"""Columns of texts by a tokenizer that is made here."""

import sys

import numpy as np
import pyarrow as pa
import pytest

from data_prep import write_frame
from fedapm_mpi.errors import FedAPMError
from tests.support.preparation import everyone, prepare
from tests.unit.data_prep.test_table_source import saved

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "good", "bad", "very", "film", "never"]
N = 60
RNG = np.random.default_rng(2)
TEXTS = [
    " ".join(RNG.choice(["good", "bad", "very", "film", "odd"], size=k % 7)) or None
    for k in range(N)
]
TABLE = pa.table({
    "who": [f"p{k % 3}" for k in range(N)],
    "note": pa.array(TEXTS),
    "age": np.arange(N) * 0.5,
    "y": np.array(["no", "yes"])[RNG.integers(2, size=N)],
})  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "mine"
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate(WORDS)}, "[UNK]")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]"
    ).save_pretrained(path)
    return path


def made(tmp_path, folder, *words, table=TABLE, to="d"):
    path = saved(tmp_path / to / "t", table, "parquet")
    return prepare(
        "table", path, tmp_path / to / "made", "client=who", "target=y",
        f"tokenizer={folder}", *words,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def folders(tmp_path):
    for name in ("d", "e"):
        (tmp_path / name).mkdir()


def tokens(text, most):
    code = {word: k for k, word in enumerate(WORDS)}
    return [code.get(word, 1) for word in (text or "").split()][:most] or [0]


@pytest.mark.parametrize("most", [128, 4])
def test_tokens_are_those_of_the_words(tmp_path, folder, most):
    words = ["text=[note]"] + [f"max_tokens={most}"] * (most != 128)
    manifest = made(tmp_path, folder, *words)
    x, note = manifest.inputs
    assert (x.name, note.name, note.shape) == ("x", "note", (min(most, 6),))
    assert (note.codes, note.ragged) == (len(WORDS), True)
    found = []
    for parts in everyone(manifest).values():
        for own in parts:
            pairs = zip(own.inputs["note"], own.lengths["note"], strict=True)
            found += [line[:n].tolist() for line, n in pairs]
            assert all((line[n:] == 0).all() for line, n in zip(
                own.inputs["note"], own.lengths["note"], strict=True))  # fmt: skip
    assert sorted(found) == sorted(tokens(text, most) for text in TEXTS)
    assert manifest.preparation["source"]["tokenizer"] == "mine"


def test_later_rows_and_frames_have_the_same_tokens(tmp_path, folder):
    first = made(tmp_path, folder, "text=[note]")
    later = made(tmp_path, folder, f"like={first.directory}", to="e")
    assert later.inputs == first.inputs
    assert later.files[0].sha256 == first.files[0].sha256
    frame = write_frame(
        TABLE, tmp_path / "f", dataset="made", target="y", client="who",
        text=["note"], tokenizer=str(folder),
    )  # fmt: skip
    assert frame.files[0].sha256 == first.files[0].sha256
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_text(path.read_text() + "\n")
    with pytest.raises(FedAPMError, match="by another tokenizer; name that one"):
        made(tmp_path, other, f"like={first.directory}", "--force", to="e")


@pytest.mark.parametrize(
    ("tokenizer", "words", "said"),
    [
        (None, [], "tokenizer has no effect without text"),
        ("nowhere", ["text=[note]"], "tokenizer='nowhere' cannot be read"),
        (None, ["text=[notes]"], "text names 'notes', .* did you mean 'note'"),
        (None, ["text=[note]", "ids=[note]"], "named twice by ids, ordinal and text"),
        (None, ["text=[note]", "max_tokens=0"], "max_tokens must be at least 1"),
    ],
)
def test_what_cannot_be_taken_apart(tmp_path, folder, tokenizer, words, said):
    with pytest.raises(FedAPMError, match=said):
        made(tmp_path, tokenizer or folder, *words)


def test_a_missing_tokenizer_or_library_is_said(tmp_path, folder, monkeypatch):
    path = saved(tmp_path / "t", TABLE, "parquet")
    with pytest.raises(FedAPMError, match="name the folder of a tokenizer with tok"):
        prepare("table", path, tmp_path / "x", "client=who", "target=y", "text=[note]")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FedAPMError, match=r"pip install 'fedapm-mpi\[text\]'"):
        made(tmp_path, folder, "text=[note]")
