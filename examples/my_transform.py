r"""An update transform of your own: stochastic quantisation, without bias.

    fedapm train examples/sensors.yaml \
        'update_transforms=[{name: "./examples/my_transform.py:Quantize", levels: 64}]'

Each number of an update becomes one of `2 * levels + 1` equally spaced values; which of
the two nearest is drawn, so that the expected value is the number itself. The draw is
addressed by seed, round and client: it does not depend on ranks.

Reference: Alistarh et al., "QSGD: communication-efficient SGD via gradient quantization
and encoding", NeurIPS 2017.
"""

from dataclasses import dataclass

import numpy as np

from fedapm_mpi.aggregators.transforms import UpdateContext, UpdateTransform
from fedapm_mpi.utils.rng import generator


@dataclass(frozen=True, kw_only=True)
class Quantize(UpdateTransform):
    """Rounds what a client sends to a few values, at random."""

    levels: int = 64
    """Values above 0; as many below."""

    def encode(
        self, update: np.ndarray, state: dict, context: UpdateContext
    ) -> np.ndarray:
        """Return the rounded update, (length,) in float64."""
        scale = np.abs(update).max(initial=0.0) / self.levels
        if scale == 0:
            return update
        rng = generator(context.seed, "quantize", context.round_index, context.client)
        lower = np.floor(update / scale)
        return (lower + (rng.random(len(update)) < update / scale - lower)) * scale
