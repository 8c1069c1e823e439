"""A task as a user would write it, in one file."""

TOP2 = '''\
"""Classification by a multi-class margin, measured by the two best classes."""

from dataclasses import dataclass

import numpy as np
from torch.nn.functional import multi_margin_loss

from fedapm_mpi.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Top2(Task):
    margin: float = 1.0
    """Margin between the label's score and the others'."""

    higher_is_better = {"top2": True, "miss": False}
    bounds = {"top2": (0.0, 1.0)}

    def output_size(self, num_classes):
        return num_classes

    def loss(self, outputs, targets, reduction="mean"):
        return multi_margin_loss(
            outputs, targets, margin=self.margin, reduction=reduction
        )

    def predict(self, outputs):
        return outputs

    def metrics(self, predictions, targets):
        best = np.argsort(-predictions, axis=1)[:, :2]
        hits = (best == targets[:, None]).any(axis=1).mean()
        return {"miss": 1 - hits, "top2": hits}
'''
