"""``fedapm extract`` under mpiexec: the same bytes on any number of ranks."""

import shutil

import pytest

from tests.support import PROCESSES, ROOT
from tests.support.data import archives
from tests.support.processes import mpiexec
from tests.support.processes.cli_runs import train_many

pytestmark = pytest.mark.slow

SMALL_CHUNKS = """
import data_prep.feature_extraction
data_prep.feature_extraction.CHUNK = 3
"""
ONE = """
import sys
from fedapm_mpi.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
MANY = """
import runpy
runpy.run_path({batch!r}, run_name="__main__")
"""
BROKEN = "AudioWAV/1002_S02_HAP_XX.wav"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    archives.image_network(folder / "images")
    archives.crema_d(folder / "crema", speakers=2)
    shutil.copytree(folder / "crema", folder / "broken")
    (folder / "broken" / BROKEN).write_bytes(b"")
    (folder / "extract.py").write_text(SMALL_CHUNKS + ONE)
    batch = str(PROCESSES / "command_batch.py")
    (folder / "many.py").write_text(SMALL_CHUNKS + MANY.format(batch=batch))
    return folder


def command(root, to, archive="crema"):
    words = ["extract", "crema_d", "--from", root / archive, "--to", to]
    return [*words, f"weights={root / 'images'}"]


def extract(ranks, root, to):
    argv = [str(root / "extract.py"), *map(str, command(root, to))]
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


@pytest.fixture(scope="module")
def three(root):
    """What three ranks come to in one job, with whole clips and with a broken one."""
    commands = {
        "whole": command(root, root / "three"),
        "broken": command(root, root / "resumed", "broken"),
    }
    script = root / "many.py"
    return train_many(3, commands, root / "output", script=script)


def test_any_number_of_ranks(root, alone, three):
    assert three["whole"].codes == [0] * 3, three["whole"]
    assert contents(root / "three") == alone


def test_a_broken_clip_ends_all_ranks_together(root, alone, three):
    ended, to = three["broken"], root / "resumed"
    assert ended.codes == [3] * 3, ended
    (line,) = "".join(ended.stderr).strip().splitlines()
    assert line.startswith("fedapm: error: 1002_S02_HAP_XX: ")
    # What was made until then is kept, and work continues on another number of ranks.
    before = {name for name in contents(to) if name.endswith("items.json")}
    assert 0 < len(before) < 5
    assert extract(2, root, to).returncode == 0
    assert contents(to) == alone
