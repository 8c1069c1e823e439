"""``fedapm extract`` under mpiexec: the same bytes on any number of ranks."""

import pytest

from tests.support import ROOT
from tests.support.data import archives
from tests.support.processes import mpiexec

pytestmark = pytest.mark.slow

CODE = """
import sys
import data_prep.feature_extraction
from fedapm_mpi.cli.main import main
data_prep.feature_extraction.CHUNK = 3
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    archives.image_network(folder / "pictures")
    archives.crema_d(folder / "crema", speakers=2)
    (folder / "extract.py").write_text(CODE)
    return folder


def extract(ranks, root, to):
    words = ["extract", "crema_d", "--from", root / "crema", "--to", to]
    words += [f"weights={root / 'pictures'}"]
    argv = [str(root / "extract.py"), *map(str, words)]
    path = {"PYTHONPATH": str(ROOT)}
    return mpiexec.run(ranks, argv, timeout=120, env=path)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(root):
    """What one process makes, without a launcher."""
    ended = extract(None, root, root / "alone")
    assert ended.returncode == 0, ended
    assert "14 items of crema-d, 0 broken ones left out" in ended.stdout
    assert ended.stdout.count("of 5 chunks") >= 2
    made = contents(root / "alone")
    assert sum(name.endswith("audio.npy") for name in made) == 5
    return made


def test_any_number_of_ranks(root, alone, tmp_path):
    ended = extract(3, root, tmp_path / "to")
    assert ended.returncode == 0, ended
    assert contents(tmp_path / "to") == alone


def test_a_broken_clip_ends_all_ranks_together(root, alone, tmp_path):
    broken = root / "crema/AudioWAV/1002_S02_HAP_XX.wav"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    try:
        ended = extract(3, root, tmp_path / "to")
        assert ended.returncode == 3, ended
        (line,) = ended.stderr.strip().splitlines()
        assert line.startswith("fedapm: error: 1002_S02_HAP_XX: ")
    finally:
        broken.write_bytes(whole)
    # What was made until then is kept, and it goes on at another number of ranks.
    before = {name for name in contents(tmp_path / "to") if name.endswith("items.json")}
    assert 0 < len(before) < 5
    assert extract(2, root, tmp_path / "to").returncode == 0
    assert contents(tmp_path / "to") == alone
