"""FedSelect as a rule: personal is what local training changes most.

See `fedapm_mpi.optim.parameter_change` for the reference, and what differs.
"""

from collections.abc import Mapping, Sequence

from fedapm_mpi.optim.parameter_change import personal_tensors, selected_shares
from fedapm_mpi.training.split_rules.base import LocalModel


class SelectionRule:
    """Scores parameter tensors by the share of their entries that change most."""

    needs_gradient = False

    def scored(self, names: Sequence[str]) -> list[str]:
        """Return the parameters."""
        return list(names)

    def score(self, client: LocalModel) -> dict[str, float]:
        """Return the share of each tensor's entries that the client selects."""
        return selected_shares(client.end - client.start, client.places())

    def personal(
        self, scores: Mapping[str, float], sizes: Mapping[str, int]
    ) -> set[str]:
        """Return the tensors of which clients select most, as far as they fit."""
        return personal_tensors(scores, sizes)
