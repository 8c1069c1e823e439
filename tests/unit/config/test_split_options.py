"""The options of a split that is chosen, as they are written."""

import pytest

from fedapm_mpi.config.loader import resolve, validate
from fedapm_mpi.config.overrides import read_overrides
from fedapm_mpi.config.schema import Config
from fedapm_mpi.config.split_options import AutoSplit, Split
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.identity import identity_of
from tests.support.processes.cli_runs import experiment


def with_split(split, *overrides):
    values = experiment("data", split=split)
    return resolve(values, read_overrides(overrides), "test")


def test_one_word_is_auto_with_its_defaults():
    config = with_split("auto")
    assert config.split == Split(auto=AutoSplit())
    assert Config.from_plain(config.plain()) == config
    assert validate(config.plain(), "saved") == config


def test_overrides_change_it():
    assert with_split("auto", "split.auto.rounds=5").split.auto.rounds == 5
    assert with_split({"personal": ["a"]}, "split=auto").split == Split(
        auto=AutoSplit()
    )
    given = with_split("auto", "split={personal: [a]}")
    assert given.split == Split(personal=["a"])
    both = {"auto": {"rounds": 4, "level": 0.01}}
    assert with_split(both, "split.auto.rounds=5").split.auto.level == 0.01


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (
            {"auto": {"round": 3}},
            r"split.auto.round: unknown key.*did you mean 'rounds'",
        ),
        ({"auto": {"level": 1.0}}, "split.auto.level: .*less than 1"),
        ({"auto": {"rounds": 0}}, "split.auto.rounds: .*greater than or equal to 1"),
        ({"auto": {}, "personal": ["a"]}, "split: give exactly one of"),
        ({"auto": {"level": 0.1, "threshold": 2.0}}, "threshold or level, not both"),
        ("automatic", "split"),
    ],
)
def test_what_is_wrong_is_refused(split, words):
    with pytest.raises(ConfigError, match=words):
        with_split(split)


def test_the_identity_of_earlier_runs_is_as_it_was():
    config = with_split({"personal": ["head.*"]}).plain()
    assert "auto" not in identity_of(config)["split"]
    assert "multiplier" not in identity_of(config)["diagnostics"]
    assert "auto" in identity_of(with_split("auto").plain())["split"]
