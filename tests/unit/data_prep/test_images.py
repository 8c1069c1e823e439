"""Images keep their bits; what cannot be kept is named; nothing is waited for.

Case 05 of the field and its kind: 16-bit grey in every file format, and other modes.
"""

import os
import struct
import sys
import zlib

import numpy as np
import pytest

from data_prep.images import decode_image, eight_bits
from data_prep.sources import sources
from fedapm_mpi.errors import DataError
from tests.support.preparation import everyone, prepare

Image = pytest.importorskip("PIL.Image")

RAMP = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))


def png(values, colour_type):
    """Return a PNG of 16 bits, which Pillow does not write in colour."""
    high, wide = values.shape[:2]

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", wide, high, 16, colour_type, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def folder(tmp_path, **files):
    """Make a folder of one class, and of one more with a plain image of 8 bits."""
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    for name, content in files.items():
        file = root / "a" / name.replace("_", ".")
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content.save(file)
    return root


def read(root, size=32, colours="grey", **options):
    source = sources.get("image-folder")(root, size=size, colours=colours, **options)
    column = source.table.columns[0]
    return source, column.fetch(np.arange(len(source.table.labels)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ramp_png", Image.fromarray(RAMP)),
        ("ramp_tiff", Image.fromarray(RAMP)),
        ("big_tiff", Image.fromarray(RAMP.astype(">u2"))),
        ("wide_tiff", Image.fromarray(RAMP.astype(np.int32))),
        ("ramp_pgm", Image.fromarray(RAMP)),
        ("raw_pgm", b"P5 32 32 65535\n" + RAMP.astype(">u2").tobytes()),
    ],
)
def test_grey_of_16_bits_keeps_them(tmp_path, name, content):
    source, x = read(folder(tmp_path, **{name: content}))
    np.testing.assert_array_equal(x[0, 0], RAMP)
    assert x.dtype == np.uint16
    spec = source.table.columns[0].spec
    assert (spec.dtype, spec.shape) == ("uint16", (1, 32, 32))
    seen = x[0, 0, 0] * spec.scale + spec.shift
    np.testing.assert_allclose(seen, np.linspace(-1, 1, 32), atol=1e-4)
    note = "1 of 1 pictures have grey of 16 bits"  # codespell:ignore pictures
    assert note in source.notes[0]
    assert not source.warnings


def test_grey_of_16_bits_through_prepare(tmp_path, capsys):
    root = folder(tmp_path, a_png=Image.fromarray(RAMP), b_png=Image.fromarray(RAMP))
    manifest = prepare("image_folder", root, tmp_path / "to", "partitioner=iid",
                       "clients=1", "size=32", "test=0.5")  # fmt: skip
    assert manifest.inputs[0].dtype == "uint16"
    assert manifest.inputs[0].scale == 1 / 32767.5
    assert manifest.inputs[0].shift == -1
    held = everyone(manifest)["train"][0].inputs["image"]
    np.testing.assert_array_equal(held[0], np.stack([RAMP] * 3))
    note = "note: 2 of 2 pictures have grey of 16 bits"  # codespell:ignore pictures
    assert note in capsys.readouterr().out
    assert manifest.preparation["notes"]


def test_scaling_keeps_the_range_and_agrees_with_8_bits(tmp_path):
    small = (RAMP // 257).astype(np.uint8)
    root = folder(tmp_path, a_png=Image.fromarray(small.astype(np.uint16) * 257),
                  b_png=Image.fromarray(small))  # fmt: skip
    source, x = read(root, size=16)
    assert x.dtype == np.uint16
    assert x[0].max() > 60_000
    # The one of 8 bits is rounded to these as it is scaled.
    assert np.abs(x[0].astype(int) - x[1]).max() <= 257
    assert "the 1 of 8 bits times 257" in source.notes[0]
    _, plain = read(folder(tmp_path / "other", b_png=Image.fromarray(small)), size=16)
    np.testing.assert_array_equal(x[1], plain[0].astype(np.uint16) * 257)
    assert plain.dtype == np.uint8


def test_a_rotated_image_of_16_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = folder(tmp_path)
    Image.fromarray(RAMP).save(root / "a" / "turned.png", exif=exif)
    _, x = read(root)
    np.testing.assert_array_equal(x[0, 0], np.rot90(RAMP, -1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (RAMP.astype(np.float32), "floats of unknown range"),
        (RAMP.astype(np.int32) * 1000, "go from 0 to 65535000"),
        (RAMP.astype(np.int32) - 1, "go from -1 to 65534"),
    ],
)
def test_images_of_unknown_range_are_refused(tmp_path, values, message):
    odd = Image.fromarray(values)
    root = folder(tmp_path, a_tiff=odd, b_png=Image.fromarray(RAMP))
    with pytest.raises(DataError, match=message) as caught:
        read(root)
    assert "a.tiff" in str(caught.value)
    source, x = read(root, skip_broken=True)
    assert source.skipped == ("a/a.tiff",)
    np.testing.assert_array_equal(x[0, 0], RAMP)


def test_dark_images_are_asked_about(tmp_path):
    twelve = Image.fromarray((RAMP // 16).astype(np.uint16))
    source, x = read(folder(tmp_path, a_png=twelve))
    assert x.max() == 4095
    assert "no 16-bit image has a value above 4095 of 65535" in source.warnings[0]


RGB16 = np.full((4, 4, 3), 1000, np.uint16)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (png(RGB16, 2), "a_png"),
        (png(RGB16[..., :2], 4), "a_png"),
        (png(np.full((4, 4, 4), 1000), 6), "a_png"),
        (b"P6 4 4 65535\n" + RGB16.astype(">u2").tobytes(), "a_ppm"),
    ],
)
def test_colours_of_16_bits_are_named(tmp_path, content, name):
    source, x = read(folder(tmp_path, **{name: content}), size=4, colours="rgb")
    assert x.dtype == np.uint8
    assert np.unique(x).tolist() in ([3], [4])
    assert "1 of 1 images (first a/a." in source.warnings[0]
    assert "colours of 16 bits, of which Pillow reads the upper 8" in source.warnings[0]
    assert not source.notes


def test_transparency_and_frames_are_named(tmp_path):
    clear = Image.new("RGBA", (4, 4), (0, 50, 0, 128))
    opaque = Image.new("RGBA", (4, 4), (0, 50, 0, 255))
    palette = Image.new("RGB", (4, 4), (204, 0, 0)).convert("P")
    root = folder(tmp_path, clear_png=clear, opaque_png=opaque)
    palette.save(root / "a" / "palette.png", transparency=b"\x00" * 256)
    red, blue = (Image.new("RGB", (4, 4), c) for c in ((9, 0, 0), (0, 0, 9)))
    for suffix in ("png", "tiff", "webp"):
        file = root / "a" / f"film.{suffix}"
        more = {"lossless": True} if suffix == "webp" else {}
        red.save(file, save_all=True, append_images=[blue], **more)
    source, x = read(root, size=4, colours="rgb")
    named = " | ".join(source.warnings)
    assert "2 of 6 images (first a/clear.png) have transparent pixels" in named
    assert "3 of 6 images (first a/film.png) hold several frames or pages" in named
    colours = [image[:, 0, 0].tolist() for image in x]
    assert colours == [[0, 50, 0], *[[9, 0, 0]] * 3, [0, 50, 0], [204, 0, 0]]


def test_other_modes_are_as_they_were(tmp_path):
    bits = Image.fromarray(np.eye(8, dtype=bool))
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    two = Image.new("LA", (8, 8), (77, 255))
    root = folder(tmp_path, bits_png=bits, ink_tiff=ink, two_png=two)
    source, x = read(root, size=8, colours="rgb")
    np.testing.assert_array_equal(x[0], np.stack([np.eye(8) * 255] * 3))
    assert x[1][:, 0, 0].tolist() == [255, 0, 0]
    assert x[2][:, 0, 0].tolist() == [77, 77, 77]
    assert not source.warnings
    assert not source.notes


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    root = folder(tmp_path, a_png=Image.fromarray(RAMP))
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "a" / "more.png").mkdir()
    Image.fromarray(RAMP).save(root / "a" / "more.png" / "b.png")
    with pytest.raises(DataError, match=r"gone\.png does not decode"):
        read(root)
    (root / "a" / "gone.png").unlink()
    with pytest.raises(DataError, match=r"pipe\.png .*it is not a regular file"):
        read(root)
    source, x = read(root, skip_broken=True)
    assert source.skipped == ("a/pipe.png",)
    assert len(x) == 2
    os.mkfifo(root / "owners.csv")
    with pytest.raises(DataError, match=r"owners\.csv is not a regular file"):
        read(root, skip_broken=True, table="owners.csv")


def test_too_many_pixels(tmp_path, monkeypatch):
    root = folder(tmp_path, a_png=Image.fromarray(RAMP))
    for most in (1023, 500):  # Pillow only warns of the first.
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(DataError, match=f"it has more than {most} pixels"):
            read(root)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1024)
    assert len(read(root)[1]) == 1


def test_extractors_see_16_bits_as_8(tmp_path):
    root = folder(tmp_path, a_png=Image.fromarray(RAMP))
    seen = np.asarray(eight_bits(root / "a" / "a.png"))
    np.testing.assert_array_equal(seen[..., 0], np.rint(RAMP / 257))
    assert seen.shape == (32, 32, 3)
    assert decode_image(root / "a" / "a.png", 32, "grey").peak == 65535


def test_files_that_are_not_read_are_named(tmp_path):
    root = folder(tmp_path, a_png=Image.fromarray(RAMP), b_gif=Image.new("L", (4, 4)))
    (root / "a" / "c.dcm").write_text("another format")
    (root / "a" / "d.gif").write_text("another format")
    (root / "a" / ".DS_Store").write_text("of no interest")
    Image.new("L", (4, 4)).save(root / "alone.png")
    source, x = read(root)
    assert len(x) == 1
    assert "3 files in the folders of the classes are not read" in source.warnings[0]
    assert "(2 .gif, 1 .dcm)" in source.warnings[0]
    assert "1 images lie in no folder of a class" in source.warnings[1]
    assert "alone.png" in source.warnings[1]
