"""The doctor's report as JSON."""

import json

from fedapm_mpi.doctor.checks import run_checks
from fedapm_mpi.doctor.report import plain
from tests.support.invented_ranks import data, shard


def test_everything_can_be_written_as_json():
    observed = data(faults=[shard("missing")])
    tree = json.loads(json.dumps(plain(observed, run_checks(observed))))
    assert tree["exit_code"] == 3
    assert tree["findings"][0]["name"] == "missing shard"
    assert tree["ranks"][5]["host"] == "n3"
    assert set(tree["findings"][0]) == {"level", "name", "what", "mend", "about"}
