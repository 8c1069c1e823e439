"""Groups of clients with models of different shapes."""

from tests.support.data.recorded import KEEP_ALL

SIDES = {"x": 3, "y": 2}
GROUPS = [
    {"clients": [0, "5-6"], "model": {"hidden": 5, "sides": {"y": 2}}},
    {"names": ["client 3"], "model": {"hidden": 2, "sides": {"x": 3}}},
]
"""The rest, 1, 2, 4 and 7, have both side branches and the usual width."""


MIXED = {
    "model": {"name": "user_parts:towers", "sides": SIDES},
    "split": {"personal": ["inlet.*"]},
    "groups": GROUPS,
    "partially_shared": ["side_*"],
    "dtype": "float64",
    "checkpoint": KEEP_ALL,
    "rounds": 6,
    "participation": {"name": "random", "fraction": 0.2},
}
