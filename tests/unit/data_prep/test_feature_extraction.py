"""From archives of the originals' layouts to features, shards and a round of training.

The archives are small and made here, the networks small ones of the real kinds; what
follows from them is compared with their libraries called by hand.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

import data_prep.feature_extraction
from data_prep.extractors import BrokenItem, Items, extractors
from data_prep.extractors._audio import filter_bank
from data_prep.extractors._video import frames
from data_prep.extractors.crisismmd import CLASSES, plain
from data_prep.feature_extraction import extract
from data_prep.pipeline import plan, prepare
from fedapm_mpi.cli.main import main
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.errors import DataError
from fedapm_mpi.training.runner import train
from tests.support.data import archives
from tests.support.processes.cli_runs import FEDAPM, digest_of, rounds_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    archives.image_network(folder / "image-network")
    archives.text_network(folder / "text")
    archives.crema_d(folder / "crema")
    archives.crisismmd(folder / "crisis")
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(data_prep.feature_extraction, "CHUNK", 4)


def copy(root, name, tmp_path):
    return shutil.copytree(root / name, tmp_path / name)


def crema(root, origin=None, **options):
    weights = {"weights": str(root / "image-network")}
    return extractors.get("crema-d")(origin or root / "crema", **weights | options)


def crisis(root, origin=None, **options):
    weights = {
        "image_weights": str(root / "image-network"),
        "text_weights": str(root / "text"),
    }
    return extractors.get("crisismmd")(origin or root / "crisis", **weights | options)


def run(extractor, to, skip_broken=False, tell=lambda done, of: None, asked="same"):
    return extract(
        Serial(), extractor, to, identity={"asked": asked}, skip_broken=skip_broken,
        tell=tell,
    )  # fmt: skip


@pytest.fixture(scope="module")
def features(root, tmp_path_factory):
    """Folders of both archives' features."""
    to = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_prep.feature_extraction, "CHUNK", 4)
        run(crema(root), to / "crema")
        run(crisis(root), to / "crisis")
    return to


def read(directory, split):
    """Return every client's samples, by client."""
    manifest = read_manifest(directory)
    reader = ShardReader(manifest)
    return [reader.read(i, split) for i in range(manifest.num_clients)]


def mel_bank(samples, rate=16_000, bands=80):
    """Kaldi's log-mel filter bank, from its definition."""
    size, shift = rate * 25 // 1000, rate * 10 // 1000
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    mel = lambda f: 1127 * np.log1p(f / 700)  # noqa: E731
    edges = np.linspace(mel(20), mel(rate / 2), bands + 2)
    bins = mel(np.arange(256) * rate / 512)
    left, centre, right = (edges[k : k + bands, None] for k in range(3))
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    weights = np.maximum(0, np.minimum(rising, falling))
    found = []
    for start in range(0, len(samples) - size + 1, shift):
        frame = samples[start : start + size].astype(float)
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512)[:256]) ** 2
        found.append(np.log(np.maximum(weights @ power, np.finfo(np.float32).eps)))
    return np.array(found)


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "float32", "stereo"])
def test_the_filter_bank_is_kaldis(tmp_path, kind):
    rng = np.random.default_rng(1)
    t = np.arange(6000) / 16_000
    sound = 4000 * np.sin(2 * np.pi * 700 * t) + 900 * rng.normal(size=len(t))
    whole = np.rint(sound).astype(np.int16)
    stored = {
        "int16": whole,
        "int32": whole.astype(np.int32) * 2**16,
        "uint8": (whole // 256 + 128).astype(np.uint8),
        "float32": (whole / 2**15).astype(np.float32),
        "stereo": np.stack([whole + 7, whole - 7], axis=1),
    }[kind]
    expected = (whole // 256) * 256 if kind == "uint8" else whole
    wavfile.write(tmp_path / "a.wav", 16_000, stored)
    found = filter_bank(tmp_path / "a.wav", 600)
    bank = mel_bank(expected)
    assert found.shape == bank.shape == (36, 80)
    np.testing.assert_allclose(found, bank, atol=2e-3)
    np.testing.assert_array_equal(filter_bank(tmp_path / "a.wav", 5), found[:5])


def test_other_files_among_the_samples_are_ignored_in_silence(tmp_path, recwarn):
    path = tmp_path / "a.wav"
    wavfile.write(path, 16_000, np.arange(4000, dtype=np.int16))
    expected = filter_bank(path, 600)
    raw = path.read_bytes()
    title = b"abcd" + (8).to_bytes(4, "little") + b"a title "
    size = (len(raw) + len(title) - 8).to_bytes(4, "little")
    path.write_bytes(raw[:4] + size + raw[8:36] + title + raw[36:])
    np.testing.assert_array_equal(filter_bank(path, 600), expected)
    assert not [w for w in recwarn if w.category is wavfile.WavFileWarning]


def test_frames_are_one_a_second_without_the_last_two(tmp_path):
    """At 4 a second: 0, 4, 8 of 11; the ninth of ten is one of the last two."""
    shades = [np.full((48, 64, 3), 20 * k, np.uint8) for k in range(11)]
    archives.film(tmp_path / "a.flv", shades)
    found = [np.array(image).mean() / 20 for image in frames(tmp_path / "a.flv", 9)]
    assert np.rint(found).tolist() == [0, 4, 8]
    assert len(frames(tmp_path / "a.flv", 2)) == 2
    archives.film(tmp_path / "b.flv", shades[:10])
    assert len(frames(tmp_path / "b.flv", 9)) == 2
    archives.film(tmp_path / "c.flv", shades[:2])
    with pytest.raises(BrokenItem, match=r"c\.flv has 2 frames, too few"):
        frames(tmp_path / "c.flv", 9)


def by_hand(root, images):
    """Return the pooled features of (n, 224, 224, 3) images."""
    from transformers import AutoModel

    net = AutoModel.from_pretrained(root / "image-network").eval()
    x = torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    with torch.no_grad():
        x = (x - mean[:, None, None]) / std[:, None, None]
        return net(x.float()).pooler_output.numpy()


def test_images_are_cropped_at_the_center_and_normalised(root):
    from data_prep.extractors._pretrained import ImageNetwork

    network = ImageNetwork(str(root / "image-network"))
    rng = np.random.default_rng(2)
    wide = rng.integers(0, 256, (256, 300, 3)).astype(np.uint8)
    large = rng.integers(0, 256, (512, 768, 3)).astype(np.uint8)
    grey = Image.fromarray(wide[..., 0])
    expected = by_hand(
        root,
        [
            wide[16:240, 38:262],
            np.array(Image.fromarray(large).resize((384, 256)))[16:240, 80:304],
            np.repeat(wide[16:240, 38:262, :1], 3, axis=2),
        ],
    )
    found = network([Image.fromarray(wide), Image.fromarray(large), grey])
    assert network.width == 1280
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_links_are_not_text():
    assert plain(" a flood https://t.co/Ab1 here http://x.y/z?q=1 ") == "a flood  here"
    assert plain("https://t.co/x") == ""


def test_crema_d_from_the_archive_to_a_round(root, features, tmp_path):
    prepare(plan("crema_d", {"normalise": "none"}), features / "crema", tmp_path / "to")
    manifest = read_manifest(tmp_path / "to")
    assert manifest.client_names == ("1001", "1002", "1003")
    assert manifest.classes == ("anger", "sadness", "happiness", "neutral")
    # Of eight clips, the fifth has another emotion.
    assert manifest.counts["train"].tolist() == [6] * 3
    assert manifest.counts["test"].tolist() == [1] * 3
    names = json.loads((features / "crema/features.json").read_text())["names"]
    assert len(names) == 21
    assert not any("FEA" in name or "TIE" in name for name in names)
    expected = {}
    for name in names:
        sound = filter_bank(root / "crema/AudioWAV" / f"{name}.wav", 600)
        images = frames(root / "crema/VideoFlash" / f"{name}.flv", 10)
        cut = [np.array(p.resize((341, 256)))[16:240, 58:282] for p in images]
        label = ["ANG", "SAD", "HAP", "NEU"].index(name.split("_")[2])
        expected[len(sound), label, name[:4]] = sound, by_hand(root, cut)
    assert len(expected) == 21, "the control: clips are distinguished"
    seen = 0
    for split in ("train", "test"):
        for i, own in enumerate(read(tmp_path / "to", split)):
            for k, label in enumerate(own.labels):
                n, m = own.lengths["audio"][k], own.lengths["video"][k]
                sound, film = expected[n, label, manifest.client_names[i]]
                np.testing.assert_array_equal(own.inputs["audio"][k][:n], sound)
                assert not own.inputs["audio"][k][n:].any()
                assert m == len(film) == 3
                np.testing.assert_allclose(
                    own.inputs["video"][k][:m], film, rtol=1e-3, atol=1e-4
                )
                seen += 1
    assert seen == 21
    trains(tmp_path, "audio-video", ["audio_*", "video_*"])


def test_crema_d_is_standardised_by_training_clips_alone(features, tmp_path):
    for over in ("train", "all"):
        values = {"normalise": over, "test": 0.3}
        prepare(plan("crema_d", values), features / "crema", tmp_path / over)
        raw = {"normalise": "none", "test": 0.3}
        prepare(plan("crema_d", raw), features / "crema", tmp_path / f"raw-{over}")
        for i in range(3):
            steps = []
            for split in ("train", "test"):
                own = read(tmp_path / f"raw-{over}", split)[i]
                pairs = zip(own.inputs["audio"], own.lengths["audio"], strict=True)
                if split == "train" or over == "all":
                    steps += [x[:n] for x, n in pairs]
            known = np.concatenate(steps).astype(np.float64)
            for split in ("train", "test"):
                before = read(tmp_path / f"raw-{over}", split)[i]
                after = read(tmp_path / over, split)[i]
                for x, y, n in zip(
                    before.inputs["audio"], after.inputs["audio"],
                    before.lengths["audio"], strict=True,
                ):  # fmt: skip
                    expected = (x[:n] - known.mean(0)) / (known.std(0) + 1e-5)
                    np.testing.assert_allclose(y[:n], expected, rtol=1e-5, atol=1e-5)
                    assert not y[n:].any()
                np.testing.assert_array_equal(
                    before.inputs["video"], after.inputs["video"]
                )


def test_crisismmd_from_the_archive_to_a_round(root, features, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    values = {
        "clients": 3,
        "partitioner": {"name": "dirichlet", "beta": 1.0, "min_samples": 2},
    }
    prepare(plan("crisismmd", values), features / "crisis", tmp_path / "to")
    manifest = read_manifest(tmp_path / "to")
    assert manifest.classes == CLASSES
    net = AutoModel.from_pretrained(root / "text").eval()
    tokens = AutoTokenizer.from_pretrained(root / "text")
    for split, table in (("train", "train"), ("test", "test"), ("val", "dev")):
        rows = archives.rows_of(
            root
            / f"crisis/crisismmd_datasplit_all/task_humanitarian_text_img_{table}.tsv"
        )
        assert manifest.counts[split].sum() == len(rows)
        expected = []
        for row in rows:
            text = row["tweet_text"].split(" https")[0]
            with torch.no_grad():
                states = net(**tokens(text, return_tensors="pt")).last_hidden_state[0]
            image = Image.open(root / "crisis" / row["image"])
            scale = 256 / min(image.size)
            size = [round(scale * s) for s in image.size]
            left, top = ((s - 224) // 2 for s in size)
            cut = np.array(image.resize(size))[top : top + 224, left : left + 224]
            expected.append((by_hand(root, [cut])[0], states.numpy(), row))
        found = [
            (own.inputs["image"][k], own.inputs["text"][k][: own.lengths["text"][k]], y)
            for own in read(tmp_path / "to", split)
            for k, y in enumerate(own.labels)
        ]
        for image, states, row in expected:
            near = [
                k
                for k, (x, s, y) in enumerate(found)
                if CLASSES[y] == row["label_image"]
                and s.shape == states.shape
                and np.allclose(s, states, rtol=1e-3, atol=1e-4)
                and np.allclose(x, image, rtol=1e-3, atol=1e-4)
            ]
            assert len(near) == 1, "an item has the image, text and label of its row"
    trains(tmp_path, "image-text", ["img_*", "text_*"])


def trains(tmp_path, model, personal):
    config = {
        "data": str(tmp_path / "to"),
        "model": {"name": model, "hidden": 4, "attention": 4},
        "split": {"personal": personal},
        "algorithm": FEDAPM,
        "rounds": 1,
    }
    checked = validate(config, "test")
    train(Serial(), checked, directory=tmp_path / "run", progress="none")
    assert rounds_of(tmp_path / "run")[-1]["accuracy"] >= 0
    assert len(digest_of(tmp_path / "run")) == 64


def test_tweets_are_not_divided_by_a_random_split(features, tmp_path):
    values = {
        "clients": 2, "split": "random", "test": 0.3, "val": 0.0,
        "partitioner": {"name": "iid"},
    }  # fmt: skip
    said = json.loads((features / "crisis/features.json").read_text())
    assert len(set(said["groups"])) < len(said["groups"])
    source = plan_and_read(features / "crisis", "crisismmd")
    pairs = set(zip(source.groups.tolist(), said["groups"], strict=True))
    assert len(pairs) == len(set(said["groups"])) == len(set(source.groups.tolist()))
    manifest, _ = prepare(
        plan("crisismmd", values), features / "crisis", tmp_path / "to"
    )
    assert "val" not in manifest.counts
    assert sum(int(n.sum()) for n in manifest.counts.values()) == len(said["names"])


def test_half_the_space(features, tmp_path):
    for store in ("float32", "float16"):
        values = {"normalise": "none", "store": store}
        prepare(plan("crema_d", values), features / "crema", tmp_path / store)
    single, half = (read_manifest(tmp_path / s) for s in ("float32", "float16"))
    assert half.files[0].bytes < 0.6 * single.files[0].bytes
    for a, b in zip(
        read(tmp_path / "float32", "train"), read(tmp_path / "float16", "train"),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a.inputs["audio"], b.inputs["audio"], rtol=1e-3)
        np.testing.assert_array_equal(a.labels, b.labels)
    prepare(plan("crema_d", values), features / "crema", tmp_path / "to")
    trains(tmp_path, "audio-video", ["audio_*", "video_*"])


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_continues_where_it_ended(root, features, tmp_path):
    whole = contents(features / "crema")
    assert sum("items.json" in name for name in whole) == 6
    to = shutil.copytree(features / "crema", tmp_path / "to")
    shutil.rmtree(to / "chunk-00002")
    (to / "features.json").unlink()
    (to / ".chunk-00004").mkdir()  # what a crash leaves behind
    with pytest.raises(
        DataError, match="holds no finished features: make or continue them"
    ):
        plan_and_read(to)
    reported, kept = [], (to / "chunk-00001/audio.npy").stat().st_mtime_ns
    run(crema(root), to, tell=lambda done, of: reported.append((done, of)))
    assert reported == [(5, 6), (6, 6)]
    assert (to / "chunk-00001/audio.npy").stat().st_mtime_ns == kept
    shutil.rmtree(to / ".chunk-00004")
    assert {n: b for n, b in contents(to).items() if "extraction" not in n} == {
        n: b for n, b in whole.items() if "extraction" not in n
    }
    plan_and_read(to)


def plan_and_prepare(folder, to, name="crema_d"):
    return prepare(plan(name, {}), folder, to)


def plan_and_read(folder, name="crema_d"):
    from data_prep.sources import sources

    return sources.get(name.replace("_", "-"))(folder)


def test_another_size_of_chunks_is_another_folder(root, features, monkeypatch):
    monkeypatch.setattr(data_prep.feature_extraction, "CHUNK", 5)
    with pytest.raises(DataError, match=r"made otherwise \(they differ in: chunk\)"):
        run(crema(root), features / "crema")


class Promising:
    """An extractor that says one shape and gives another."""

    dataset = "own"
    inputs = {"a": (3, 2), "b": (None, 4)}  # noqa: RUF012

    def __init__(self, a, b):
        self.given = {"a": a, "b": b}

    def items(self):
        return Items(names=("one",), labels=(0,), classes=("x",), payload=(None,))

    def facts(self):
        return {}

    def extract(self, payload):
        return {name: x for name, x in self.given.items() if x is not None}


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((3, 2), (4,), None),
        ((1, 2), (4,), None),
        ((4, 2), (4,), r"gives 'a' of shape \(4, 2\), but declares \(at most 3, 2\)"),
        ((3, 5), (4,), r"gives 'a' of shape \(3, 5\)"),
        ((3, 2), (3,), r"gives 'b' of shape \(3,\), but declares \(4\)"),
        (None, (4,), "gives 'a' of shape"),
    ],
)
def test_an_extractor_of_ones_own_must_keep_its_word(tmp_path, a, b, words):
    values = [None if shape is None else np.ones(shape, np.float32) for shape in (a, b)]
    if words is None:
        assert run(Promising(*values), tmp_path / "to")["names"] == ["one"]
        return
    with pytest.raises(DataError, match=f"one: the extractor {words}"):
        run(Promising(*values), tmp_path / "to")


def test_a_folder_of_other_features_is_refused(root, features, tmp_path):
    with pytest.raises(DataError, match=r"made otherwise \(they differ in: asked\)"):
        run(crema(root), features / "crema", asked="other")
    weights = copy(root, "image-network", tmp_path)
    raw = bytearray((weights / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (weights / "model.safetensors").write_bytes(raw)
    with pytest.raises(DataError, match=r"made otherwise \(they differ in: facts\)"):
        run(crema(root, weights=str(weights)), features / "crema")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(DataError, match="is not empty and has no features"):
        run(crema(root), tmp_path / "mine")
    with pytest.raises(DataError, match="not of 'crisismmd'"):
        plan_and_read(features / "crema", "crisismmd")


def garbage(path):
    path.write_bytes(b"this is neither sound nor image" * 9)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda wav, flv: wav.unlink(), r"\.wav can't be read"),
        (lambda wav, flv: garbage(wav), r"\.wav can't be read"),
        (
            lambda wav, flv: wavfile.write(wav, 44_100, np.zeros(9999, np.int16)),
            "has 44100 samples a second, not 16000",
        ),
        (
            lambda wav, flv: wavfile.write(wav, 16_000, np.zeros(99, np.int16)),
            "is shorter than a frame",
        ),
        (lambda wav, flv: flv.unlink(), r"\.flv can't be decoded"),
        (lambda wav, flv: garbage(flv), r"\.flv can't be decoded"),
        (lambda wav, flv: flv.write_bytes(b""), r"\.flv can't be decoded"),
        (
            lambda wav, flv: flv.write_bytes(flv.read_bytes()[:300]),
            r"\.flv (can't be decoded|has \d frames)",
        ),
    ],
)
def test_broken_clips_are_named_and_left_out_on_request(root, tmp_path, harm, words):
    origin = copy(root, "crema", tmp_path)
    name = "1002_S01_SAD_XX"
    harm(origin / f"AudioWAV/{name}.wav", origin / f"VideoFlash/{name}.flv")
    with pytest.raises(DataError, match=f"{name}: .*{words}.*skip_broken=true"):
        run(crema(root, origin), tmp_path / "to")
    assert not (tmp_path / "to/features.json").exists()
    run(crema(root, origin, skip_broken=True), tmp_path / "skip", skip_broken=True)
    source = plan_and_read(tmp_path / "skip")
    assert source.skipped == (name,)
    assert len(source.table.labels) == 20
    manifest, _ = prepare(plan("crema_d", {}), tmp_path / "skip", tmp_path / "data")
    assert manifest.preparation["skipped"] == [name]


def test_tables_that_are_not_crema_ds(root, tmp_path):
    origin = copy(root, "crema", tmp_path)
    table = origin / "processedResults/summaryTable.csv"
    text = table.read_text()
    table.write_text(text.replace("MultiModalVote", "Vote"))
    with pytest.raises(DataError, match="has no column 'MultiModalVote'"):
        crema(root, origin).items()
    table.unlink()
    with pytest.raises(DataError, match="--from must be a clone of the repository"):
        crema(root, origin).items()
    archives.votes(origin, [["1001_S00_ANG_XX", "N"], ["1001_S00_ANG_XX", "A"]])
    message = r"\.csv, line 3, column 'FileName': 1001_S00_ANG_XX is listed twice; ke"
    with pytest.raises(DataError, match=message):
        crema(root, origin).items()
    items = crema(root, origin, skip_broken=True).items()
    assert items.names == ("1001_S00_ANG_XX",)
    assert items.labels == (3,)
    assert list(items.skipped) == ["1001_S00_ANG_XX (again)"]
    archives.votes(origin, [["1001_S00_ANG_XX", "F"]])
    with pytest.raises(DataError, match="lists no clip with a vote of A, S, H, N"):
        crema(root, origin).items()
    archives.votes(origin, [["_S00_ANG_XX", "A"], ["1001_S00_ANG_XX", "A"]])
    message = r"line 2, column 'FileName': '_S00_ANG_XX' names no speaker, as 1001_DF"
    with pytest.raises(DataError, match=message):
        crema(root, origin).items()
    table.write_text(table.read_text() + "short\n")
    with pytest.raises(DataError, match="line 4: it has fewer columns"):
        crema(root, origin).items()


@pytest.mark.parametrize(
    "file",
    ["processedResults/summaryTable.csv", "AudioWAV/1001_S00_ANG_XX.wav"],
)
def test_a_clone_without_lfs(root, tmp_path, file):
    origin = copy(root, "crema", tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (origin / file).write_text(pointer)
    with pytest.raises(DataError, match=r"is a pointer of git-lfs.*run 'git lfs pull'"):
        crema(root, origin, skip_broken=True).items()


def tsv(origin, split="train"):
    folder = origin / "crisismmd_datasplit_all"
    return folder / f"task_humanitarian_text_img_{split}.tsv"


def test_broken_tweets(root, tmp_path):
    origin = copy(root, "crisis", tmp_path)
    rows = [list(row.values()) for row in archives.rows_of(tsv(origin))]
    images = [origin / row[4] for row in rows]
    garbage(images[0])
    images[1].unlink()
    images[2].write_bytes(images[2].read_bytes()[:400])
    rows[3][7] = "meteorite"
    rows.append(rows[4])
    archives.tweets(tsv(origin), rows)
    with pytest.raises(DataError, match="has the label 'meteorite'; leave out all"):
        run(crisis(root, origin), tmp_path / "to")
    run(crisis(root, origin, skip_broken=True), tmp_path / "skip", skip_broken=True)
    source = plan_and_read(tmp_path / "skip", "crisismmd")
    expected = {row[2] for row in rows[:4]} | {f"{rows[4][2]} (again)"}
    assert set(source.skipped) == expected
    assert len(source.table.labels) == 42 - 4


def test_tables_that_are_not_crisismmds(root, tmp_path):
    origin = copy(root, "crisis", tmp_path)
    rows = [list(row.values()) for row in archives.rows_of(tsv(origin))]
    names = [name.replace("label_image", "label_photo") for name in archives.TWEET]
    archives.tweets(tsv(origin), rows, names)
    with pytest.raises(DataError, match="has no column 'label_image'"):
        crisis(root, origin).items()
    archives.tweets(tsv(origin), [*rows[:3], rows[3][:5]])
    with pytest.raises(DataError, match="line 5: it has fewer columns"):
        crisis(root, origin).items()
    tsv(origin).unlink()
    with pytest.raises(DataError, match="it is in crisismmd_datasplit_all"):
        crisis(root, origin).items()


def test_texts_over_several_lines(root, tmp_path):
    """Quotes are part of a text unless the table can't be read so."""
    origin = copy(root, "crisis", tmp_path)
    rows = [list(row.values()) for row in archives.rows_of(tsv(origin))]

    def text_of(item):
        items = crisis(root, origin).items()
        return items.payload[items.names.index(item)][1]

    rows[0][3] = '"quoted" he said'
    archives.tweets(tsv(origin), rows)
    assert text_of(rows[0][2]) == '"quoted" he said'
    rows[0][3] = '"two ""short""\nlines"'
    archives.tweets(tsv(origin), rows)
    assert text_of(rows[0][2]) == 'two "short"\nlines'
    assert text_of(rows[1][2]) == plain(rows[1][3])


def test_weights_that_are_not_there(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for weights in ("none/nothing", str(tmp_path)):
        with pytest.raises(DataError, match="are not on this machine: name a folder"):
            run(crema(root, weights=weights), tmp_path / "to")
    with pytest.raises(DataError, match="are of no network for images"):
        run(crema(root, weights=str(root / "text")), tmp_path / "text")


def test_damaged_features(features, tmp_path):
    to = shutil.copytree(features / "crema", tmp_path / "to")
    (to / "chunk-00001/audio.length.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="is damaged"):
        plan_and_read(to)
    shutil.copytree(features / "crema", to, dirs_exist_ok=True)
    items = to / "chunk-00001/items.json"
    items.write_text('{"kept": [0], "broken": {}}')
    with pytest.raises(DataError, match="its chunks hold 18 items"):
        plan_and_read(to)
    shutil.copytree(features / "crema", to, dirs_exist_ok=True)
    whole = json.loads((to / "features.json").read_text())
    for key, value, message in (
        ("labels", [0.5] * len(whole["labels"]), "labels of sample 0 is 0.5"),
        ("labels", [9] * len(whole["labels"]), "label 9 of sample 0 is not in 0 to"),
        ("labels", [1], "lengths must have one entry for each of 1 samples"),
        ("labels", {}, "labels must be one integer"),
        (
            "clients",
            [None] * len(whole["clients"]),
            "id_names: entry 0 is None, not a name",
        ),
        ("chunks", "2", "is damaged"),
        ("inputs", [], "is damaged"),
    ):
        (to / "features.json").write_text(json.dumps(whole | {key: value}))
        with pytest.raises(DataError, match=message):
            plan_and_prepare(to, tmp_path / "data")
    for text in ("[1]", "[" * 200_000):
        (to / "features.json").write_text(text)
        with pytest.raises(DataError, match=r"features\.json is damaged"):
            plan_and_read(to)
    (to / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"features\.json is damaged"):
        plan_and_read(to)


def test_the_command(root, tmp_path, capsys):
    words = ["extract", "crema_d", "--from", str(root / "crema"), "--to"]
    words += [
        str(tmp_path / "to"),
        f"weights={root / 'image-network'}",
        "video_frames=2",
    ]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "0 of 6 chunks"
    assert "21 items of crema-d, 0 broken ones left out" in out
    source = plan_and_read(tmp_path / "to")
    assert source.table.columns[1].spec.shape == (2, 1280)
    # The folder keeps the old names of options, under which it may have been begun.
    asked = json.loads((tmp_path / "to" / "extraction.json").read_text())
    assert asked["options"]["film_frames"] == 2
    assert main([*words[:-1], "film_frames=2"]) == 0
    assert "note: film_frames is now video_frames\n" in capsys.readouterr().out
    assert main([*words, "film_frames=2"]) == 2
    assert "the old name of video_frames; remove one" in capsys.readouterr().err
    assert main(["extract", "--list"]) == 0
    assert "crisismmd" in capsys.readouterr().out


def test_an_archive_that_is_not_there(root, tmp_path, capsys):
    words = ["extract", "crema_d", "--from", str(tmp_path / "no"), "--to"]
    words += [str(tmp_path / "to"), f"weights={root / 'image-network'}"]
    assert main(words) == DataError.exit_code
    assert "must be a clone of the repository" in capsys.readouterr().err
    assert not Path(tmp_path / "to").exists()
