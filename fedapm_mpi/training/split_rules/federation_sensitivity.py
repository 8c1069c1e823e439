"""PLayer-FL as a rule: the first layers are shared, up to a rise of sensitivity.

See `fedapm_mpi.optim.federation_sensitivity` for the reference, and what differs.
"""

from collections.abc import Mapping, Sequence

from fedapm_mpi.optim.federation_sensitivity import (
    federation_sensitivity,
    layer_importance,
    shared_layers,
)
from fedapm_mpi.training.split_rules.base import LocalModel


class SensitivityRule:
    """Scores layers by importance; a layer is a module's own parameters."""

    needs_gradient = True

    def scored(self, names: Sequence[str]) -> list[str]:
        """Return the layers that have weights."""
        return list(_weights(names))

    def score(self, client: LocalModel) -> dict[str, float]:
        """Return the importance of each layer's weights."""
        places = client.places()
        layers = {
            layer: [places[name] for name in names]
            for layer, names in _weights(list(places)).items()
        }
        return layer_importance(client.end, client.gradient, layers)

    def personal(
        self, scores: Mapping[str, float], sizes: Mapping[str, int]
    ) -> set[str]:
        """Return the parameters of the layers after the transition.

        Biases that are a layer of their own go with the layer before.
        """
        layers = [layer for layer in _weights(list(sizes)) if layer in scores]
        count = shared_layers(federation_sensitivity([scores[one] for one in layers]))
        own, after, found = set(layers[count:]), False, set()
        for name in sizes:
            layer = _layer(name)
            after = layer in own if layer in scores else after
            if after:
                found.add(name)
        return found


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _weights(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the parameters of each layer that are no biases; layers have some."""
    found: dict[str, list[str]] = {}
    for name in names:
        if "bias" not in name.rpartition(".")[2].split("_"):
            found.setdefault(_layer(name), []).append(name)
    return found
