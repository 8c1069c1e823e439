"""Transforms of what a client sends, such as clipping or sparsification, one a file."""

from fedapm_mpi.aggregators.transforms.base import (
    TransformChain,
    UpdateContext,
    UpdateTransform,
    is_transform_state,
    transforms,
)

__all__ = [
    "TransformChain",
    "UpdateContext",
    "UpdateTransform",
    "is_transform_state",
    "transforms",
]
