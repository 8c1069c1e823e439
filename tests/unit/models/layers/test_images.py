"""The layout of images."""

import pytest

from fedapm_mpi.models.layers.images import image_layout
from tests.support.data.model_tasks import (
    Input,
)


@pytest.mark.parametrize(
    ("shape", "size", "channels_last"),
    [
        ((28, 28), (1, 28, 28), False),
        ((1, 28, 28), (1, 28, 28), False),
        ((28, 28, 1), (1, 28, 28), True),
        ((3, 32, 24), (3, 32, 24), False),
        ((32, 24, 3), (3, 32, 24), True),
        ((8, 8, 8), (8, 8, 8), False),
    ],
)
def test_layout_of_images(shape, size, channels_last):
    assert image_layout("cnn", Input("x", shape)) == (size, channels_last)
