"""Types of options."""

from dataclasses import dataclass

import pydantic
import pytest

from fedapm_mpi.utils.types import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    strict,
)


@strict
@dataclass(frozen=True)
class Options:
    rate: float = 0.5
    count: int = 1


def test_a_strict_dataclass_refuses_unknown_keys_and_infinite_numbers():
    adapter = pydantic.TypeAdapter(Options)
    assert adapter.validate_python({"rate": 0.1}) == Options(rate=0.1)
    for wrong in ({"rat": 0.1}, {"rate": float("inf")}, {"rate": float("nan")}):
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python(wrong)
    assert Options(rate=float("inf")).count == 1, "code is not validated"


@pytest.mark.parametrize(
    ("kind", "least", "below"),
    [
        (PositiveInt, 1, 0),
        (NonNegativeInt, 0, -1),
        (PositiveFloat, 1e-300, 0.0),
        (NonNegativeFloat, 0.0, -1e-300),
    ],
)
def test_bounds(kind, least, below):
    adapter = pydantic.TypeAdapter(kind)
    assert adapter.validate_python(least) == least
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python(below)
