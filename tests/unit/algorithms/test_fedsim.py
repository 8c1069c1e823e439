"""FedSim's ends; its rounds are compared with others' in the tests of those."""

import pytest

from tests.support.data.recorded import final_clients, go, same_tensors
from tests.support.processes.cli_runs import FEDSIM


@pytest.mark.parametrize(
    ("method", "split", "other"),
    [("fedsim", {"personal": []}, "fedavg"), ("fedper", {"personal": []}, "fedavg"),
     ("fedsim", {"shared": []}, "local"), ("fedper", {"shared": []}, "local")],
)  # fmt: skip
def test_fedsim_has_the_same_ends(toy, tmp_path, method, split, other):
    ours = go(
        tmp_path / "ours", toy["odd"], split=split, algorithm={"name": method} | FEDSIM
    )
    theirs = go(
        tmp_path / "theirs", toy["odd"], split=None, algorithm={"name": other} | FEDSIM
    )
    same_tensors(final_clients(ours), final_clients(theirs))
