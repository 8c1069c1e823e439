"""Types of options: numbers with bounds, and dataclasses that refuse unknown keys."""

from typing import Annotated, TypeVar

from annotated_types import Ge, Gt

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]

T = TypeVar("T")


def strict(kind: type[T]) -> type[T]:
    """Let validation refuse unknown keys and infinite numbers; for a dataclass.

    Pydantic reads the attribute; nothing else does, so that a module of options needs
    no library.
    """
    kind.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # type: ignore[attr-defined]
    return kind
