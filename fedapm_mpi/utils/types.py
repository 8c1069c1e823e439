"""Types of options with bounds, and dataclasses that refuse unknown options."""

from typing import Annotated

from annotated_types import Ge, Gt

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
