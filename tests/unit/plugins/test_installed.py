"""Entry points that are broken, hidden or declared twice."""

import sys

import pytest

from fedapm_mpi.algorithms import algorithms
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from tests.support.installed_shelf import FEDAVG, config, install


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gone", r"shelf/plugins\.py has no 'Gone'.* entry point of shelf 1\.2"),
        ("away", r"cannot import 'shelf\.away'.* entry point of shelf 1\.2"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(site, toy, name, told):
    with pytest.raises(ConfigError, match=told):
        algorithms.get(name)
    with pytest.raises(ConfigError, match=told):
        validate(config(toy, algorithm={"name": name}), "test")


def test_built_in_names_win_and_the_hidden_one_is_named(site, toy, caplog):
    assert algorithms.get("fedavg").__module__ == "fedapm_mpi.algorithms.fedavg"
    wanted = config(toy, algorithm={"name": "fedavg", **FEDAVG})
    for _ in range(2):
        assert validate(wanted, "test").algorithm["name"] == "fedavg"
    told = [record.getMessage() for record in caplog.records]
    assert sorted(told) == [
        "algorithm 'fedavg' is the built-in one; for the installed one write "
        "shelf.plugins:Renamed (shelf 1.2)",
        "model 'mlp' is the built-in one; for the installed one write "
        "shelf.plugins:plain (shelf 1.2)",
    ]


def test_two_distributions_with_one_name_are_refused(site, toy):
    other = site.parent / "other"
    install(other, "bench", "[fedapm_mpi.models]\nplain = bench:plain\n", "3")
    sys.path.insert(0, str(other))
    told = r"'plain' is declared more than once; write .*\(bench 3\).*\(shelf 1.2\)"
    try:
        with pytest.raises(ConfigError, match=told):
            validate(config(toy, model={"name": "plain"}), "test")
    finally:
        sys.path.remove(str(other))
