"""Small archives in the originals' layouts, and small networks of the real kinds."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

EMOTIONS = {"ANG": "A", "SAD": "S", "HAP": "H", "NEU": "N", "FEA": "F"}
RATE = 16_000


def image_network(directory: Path) -> Path:
    """Save a small MobileNetV2 with random weights, as its library would."""
    from transformers import MobileNetV2Config, MobileNetV2Model

    torch.manual_seed(1)
    network = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1))
    for parameter in network.parameters():
        if parameter.ndim > 1:  # as drawn by the library, nothing gets through
            torch.nn.init.kaiming_normal_(parameter)
    network.save_pretrained(directory)
    text = '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}'
    (directory / "preprocessor_config.json").write_text(text)
    return directory


def text_network(directory: Path) -> Path:
    """Save a small MobileBERT with random weights and a vocabulary of words."""
    from transformers import BertTokenizerFast, MobileBertConfig, MobileBertModel

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] flood in the city help needed road damage"
    directory.mkdir()
    (directory / "vocab.txt").write_text("\n".join(words.split()) + "\n")
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(2)
    config = MobileBertConfig(
        vocab_size=len(words.split()), hidden_size=16, num_hidden_layers=2,
        num_attention_heads=2, intermediate_size=16, embedding_size=8,
        true_hidden_size=8, intra_bottleneck_size=8, max_position_embeddings=32,
    )  # fmt: skip
    MobileBertModel(config).save_pretrained(directory)
    return directory


def film(path: Path, images: Sequence[NDArray[np.uint8]], rate: int = 4) -> None:
    """Write a Flash film, as CREMA-D's are."""
    with av.open(str(path), "w", format="flv") as container:
        stream = container.add_stream("flv1", rate=rate)
        height, width, _ = images[0].shape
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def crema_d(root: Path, speakers: int = 3, clips: int = 8) -> Path:
    """Write a clone of CREMA-D's repository with some clips of each speaker."""
    rng = np.random.default_rng(3)
    for folder in ("AudioWAV", "VideoFlash", "processedResults"):
        (root / folder).mkdir(parents=True)
    rows = []
    for speaker in range(speakers):
        for clip in range(clips):
            emotion = list(EMOTIONS)[clip % 5]
            name = f"{1001 + speaker}_S{clip:02}_{emotion}_XX"
            seconds = 0.3 + 0.1 * rng.random()
            sound = 3000 * rng.normal(size=int(RATE * seconds)) * (1 + clip % 5)
            wavfile.write(
                root / "AudioWAV" / f"{name}.wav", RATE, sound.astype(np.int16)
            )
            shade = 40 * (clip % 5) + rng.integers(0, 30, (11, 48, 64, 3))
            film(root / "VideoFlash" / f"{name}.flv", list(shade.astype(np.uint8)))
            rows.append([name, EMOTIONS[emotion]])
    rows.append(["1001_TIE_ANG_XX", "A:N"])  # no majority, and no files
    rows.append(["1076_MTI_SAD_XX", "S"])
    votes(root, rows)
    return root


def votes(root: Path, rows: Sequence[Sequence[str]]) -> None:
    """Write CREMA-D's table of votes."""
    path = root / "processedResults" / "summaryTable.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(
            ["", "FileName", "VoiceVote", "VoiceLevel", "FaceVote", "FaceLevel",
             "MultiModalVote", "MultiModalLevel"]
        )  # fmt: skip
        for number, (name, vote) in enumerate(rows, start=1):
            writer.writerow([number, name, "N", "50", "N", "50", vote, "60"])


TWEET = ("event_name", "tweet_id", "image_id", "tweet_text", "image", "label",
         "label_text", "label_image", "label_text_image")  # fmt: skip
LABELS = ("not_humanitarian", "vehicle_damage", "affected_individuals")
TEXTS = ("flood in the city", "help needed", 'road "damage" in the city', "help")


def crisismmd(root: Path, train: int = 24, others: int = 9) -> Path:
    """Write what CrisisMMD's archives unpack to, with some tweets of each split."""
    rng = np.random.default_rng(4)
    folder = root / "data_image" / "flood"
    folder.mkdir(parents=True)
    tables = root / "crisismmd_datasplit_all"
    tables.mkdir()
    number = 0
    for split, size in (("train", train), ("dev", others), ("test", others)):
        rows = []
        for _ in range(size):
            label = number % len(LABELS)
            # Every third tweet has two images.
            tweet = 9000 + number - (number % 3 == 2)
            name = f"{tweet}_{number}"
            shade = rng.integers(0, 200, 3) + rng.integers(0, 40, (60 + number, 90, 3))
            Image.fromarray(shade.astype(np.uint8)).save(folder / f"{name}.jpg")
            text = TEXTS[number % len(TEXTS)] + f" https://t.co/{number:x}aB "
            image = f"data_image/flood/{name}.jpg"
            rows.append(
                ["flood", str(tweet), name, text, image, "x", "y", LABELS[label], "z"]
            )
            number += 1
        tweets(tables / f"task_humanitarian_text_img_{split}.tsv", rows)
    return root


def tweets(
    path: Path, rows: Sequence[Sequence[str]], columns: Sequence[str] = TWEET
) -> None:
    """Write one of CrisisMMD's tables."""
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def rows_of(path: Path) -> list[Mapping[str, str]]:
    """Return the rows of one of CrisisMMD's tables."""
    header, *lines = path.read_text("utf-8").splitlines()
    names = header.split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
