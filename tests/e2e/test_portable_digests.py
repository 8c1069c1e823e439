"""Portable runs have the published bits on this processor, whatever it is.

Where one has not, the failure names the first layer and step that part. See
`tests.support.portable`; ``python -m tests.support.portable check`` does the same.
"""

import json
import sys

import pytest

from fedapm_mpi.utils import kernels
from tests.support import portable
from tests.support.data.toy_data import write_all
from tests.support.portable_cases import SHAPES, STEPS, cases
from tests.support.processes import mpiexec

pytestmark = pytest.mark.slow

TIMEOUT = 900.0
"""Seconds for all runs, which take forty on a free core."""

NAMES = tuple(portable.published().get(portable.versions(), {"cases": {}})["cases"])


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    lacking = kernels.processor_lacks()
    if lacking is not None:
        pytest.skip(f"kernels: portable {lacking}")
    file = tmp_path_factory.mktemp("portable") / "parted.json"
    words = ["-m", "tests.support.portable", "check", "--json", str(file)]
    ended = mpiexec.run(None, words, timeout=TIMEOUT, python=sys.executable)
    assert file.exists(), ended.stderr
    return json.loads(file.read_text())


def test_the_data_are_those_of_the_published_runs(parted):
    assert [name for name in parted if name.startswith("data ")] == []


@pytest.mark.skipif(
    not NAMES, reason=f"no digests are published for {portable.versions()}"
)
@pytest.mark.parametrize("name", NAMES or ["none"])
def test_the_published_bits(parted, name):
    assert name not in parted, f"{name} {parted[name]}"


def test_every_run_is_published(tmp_path):
    folders = dict.fromkeys([*write_all(tmp_path), *SHAPES], tmp_path)
    for key, found in portable.published().items():
        assert set(found["cases"]) == set(cases(folders)), key
    assert {f"optimizer-{name}" for name in STEPS} <= set(cases(folders))
