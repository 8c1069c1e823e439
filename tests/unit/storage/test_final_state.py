"""A final state that is damaged, with checksums and without."""

import os
import shutil

import pytest

from fedapm_mpi.cli import main as cli
from tests.support.damage import flip

FINAL = {
    "not-utf-8": ("digest.txt", lambda path: path.write_bytes(b"\xff\xfe\0")),
    "cut": ("digest.txt", lambda path: os.truncate(path, 20)),
    "endless": ("digest.txt", lambda path: path.write_text("a" * 10**6)),
    "no-file": ("digest.txt", lambda path: (path.unlink(), path.mkdir())),
    "pipe": ("digest.txt", lambda path: (path.unlink(), os.mkfifo(path))),
    "server-flipped": ("server.safetensors", flip),
    "server-empty": ("server.safetensors", lambda path: path.write_bytes(b"")),
    "clients-flipped": ("clients-00000-00000.safetensors", flip),
    "clients-gone": ("clients-00000-00000.safetensors", os.unlink),
    "clients-more": (
        "clients-00000-00000.safetensors",
        lambda path: shutil.copy(
            path, path.with_name("clients-00001-00000.safetensors")
        ),
    ),
    "sums": ("checksums.txt", flip),
    "sums-not-utf-8": ("checksums.txt", lambda path: path.write_bytes(b"\xff\n")),
}


@pytest.mark.parametrize("name", FINAL)
def test_a_damaged_final_state_is_a_sentence(run, capsys, name):
    file, harm = FINAL[name]
    harm(run / "final" / file)
    assert cli.main(["digest", str(run), "--verify"]) == (0 if name == "sums" else 3)
    printed = capsys.readouterr().err
    assert len(printed) < 500
    assert name == "sums" or printed.startswith("fedapm: error: ")
    assert name == "sums" or str(run) in printed


@pytest.mark.parametrize("name", ["server-empty", "clients-flipped"])
def test_so_it_is_without_checksums(run, capsys, name):
    """As older versions left it: what can still be read has another digest."""
    (run / "final" / "checksums.txt").unlink()
    assert cli.main(["digest", str(run), "--verify"]) == 0
    file, harm = FINAL[name]
    harm(run / "final" / file)
    assert cli.main(["digest", str(run), "--verify"]) == 3
    assert "Traceback" not in capsys.readouterr().err
