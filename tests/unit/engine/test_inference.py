"""How many samples a model is given at a time where nothing is trained."""

import numpy as np
import pytest
import torch
from torch import nn

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.inference import evaluate
from fedapm_mpi.engine.partitioned_model import PartitionedModel


@pytest.mark.parametrize(
    ("shape", "pieces"),
    [((3, 32, 32), [85, 85, 30]), ((3, 200, 200), [50] * 4), ((4,), [200])],
)
def test_evaluation_takes_about_a_megabyte_at_a_time(shape, pieces):
    size = int(np.prod(shape))
    module = nn.Sequential(nn.Flatten(), nn.Linear(size, 2))
    seen = []
    module[1].register_forward_hook(lambda layer, x, y: seen.append(len(y)))
    own = Samples((torch.zeros(200, *shape),), {}, torch.arange(200) % 2)
    evaluate(PartitionedModel(module, set()), own, 2)
    assert seen == pieces
