"""Rules that choose a split from one round in which each client trains on its own.

They are the references that the multiplier test is compared with.
"""

from collections.abc import Mapping

from fedapm_mpi.training.split_rules.base import LocalRule
from fedapm_mpi.training.split_rules.federation_sensitivity import SensitivityRule
from fedapm_mpi.training.split_rules.fedselect import SelectionRule

RULES: Mapping[str, LocalRule] = {
    "federation_sensitivity": SensitivityRule(),
    "fedselect": SelectionRule(),
}
"""By the name that ``split.auto.rule`` has."""

__all__ = ["RULES", "LocalRule"]
