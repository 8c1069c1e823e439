"""The interface of a model, its registry, and checks of inputs and options."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor, nn

from fedapm_mpi.errors import ConfigError
from fedapm_mpi.registry import Registry


class InputSpec(Protocol):
    """Description of one input of a data set."""

    @property
    def name(self) -> str:
        """Name of the input, unique in its data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the axis of samples."""

    @property
    def ragged(self) -> bool:
        """Whether samples differ in length along axis 0 and are padded to `shape`."""

    @property
    def codes(self) -> int:
        """Number of codes of an input that holds codes to embed; 0 of numbers."""

    @property
    def complex(self) -> bool:
        """Whether its values are complex numbers."""


class Stage(NamedTuple):
    """A step of a model's forward pass."""

    modules: tuple[nn.Module, ...]
    """All modules whose parameters or buffers it uses."""

    run: Callable[..., Tensor]
    """The first stage is called with the arguments of the model; each other stage with
    the output (n, ...) of the stage before."""


ModelFactory: TypeAlias = Callable[..., nn.Module]
"""A callable ``factory(inputs, num_classes, *, option=default, ...)``.

It gets the inputs of the data set (a tuple of `InputSpec`, in the manifest's order)
and the number of outputs (of classification, the classes), and returns a module with
fresh parameters, the same on every rank: it may draw from torch, and from NumPy's and
Python's global generators. Its keyword-only parameters are the options of the model. It
raises `ConfigError` if the inputs or the options do not suit it.

The module is called with one tensor per input, each ``(n, *shape)`` and of the run's
dtype, the complex type of its precision where an input is complex, or int64 of one that
holds codes, in that order, and returns the logits
``(n, num_classes)``, or an object or mapping with these as ``logits``; where targets
are dense, logits have the shape that the task names. If an input is ragged, it is
also called with ``lengths``, a mapping from the names of the ragged inputs to int64
tensors ``(n,)``. The names of its parameters are what a configuration splits into
shared and personal ones. A method ``stages()`` may describe its forward pass, so that
frozen stages run once; see `fedapm_mpi.engine.feature_cache`. A method
``input_encoders()`` may return the names of the children and parameters that read the
inputs, which a search for a split then tries as personal; see
`fedapm_mpi.federation.split_candidates`.
"""

PREFIXES = {"hf": "model", "torchvision": "model", "timm": "model"}
"""Models of other libraries, of which ``hf:bert`` is short for ``hf`` with its option
``model: bert``."""

models: Registry[ModelFactory] = Registry("model", "fedapm_mpi.models", PREFIXES)


def describe(inputs: Iterable[InputSpec]) -> str:
    """Return the names and shapes of the inputs, for messages."""
    return ", ".join(f"{i.name!r} {i.shape}" for i in inputs) or "none"


def check_inputs(
    model: str,
    inputs: tuple[InputSpec, ...],
    num_outputs: int,
    *,
    codes: bool = False,
    complex_numbers: bool = False,
) -> None:
    """Check that a model can use the inputs and the number of outputs.

    Raises
    ------
    ConfigError
        If there is no input, if two share a name, if an axis is empty, if one holds
        codes and `codes` does not say that the model embeds them, if one is complex and
        `complex_numbers` does not say that the model takes such, or if there is no
        output.
    """
    if not inputs:
        msg = f"model {model!r}: the data set has no inputs; it needs one or more"
        raise ConfigError(msg)
    if len({i.name for i in inputs}) < len(inputs):
        msg = (
            f"model {model!r}: the inputs {describe(inputs)} share a name; "
            "every input needs its own"
        )
        raise ConfigError(msg)
    if any(size < 1 for i in inputs for size in i.shape):
        msg = (
            f"model {model!r}: the inputs {describe(inputs)} have an empty axis; "
            "every axis needs a size of 1 or more"
        )
        raise ConfigError(msg)
    coded = [i.name for i in inputs if i.codes]
    if coded and not codes:
        msg = (
            f"model {model!r}: input {coded[0]!r} holds codes, which this model does "
            "not embed; choose one that does, such as transformer, or leave the input "
            "out"
        )
        raise ConfigError(msg)
    pairs = [i.name for i in inputs if i.complex]
    if pairs and not complex_numbers:
        msg = (
            f"model {model!r}: input {pairs[0]!r} is complex, which this model does "
            "not take; choose mlp or logistic, or a model of your own, or leave the "
            "input out"
        )
        raise ConfigError(msg)
    if num_outputs < 1:
        msg = f"model {model!r}: {num_outputs} outputs; it needs one or more"
        raise ConfigError(msg)


def check_sizes(model: str, **sizes: int) -> None:
    """Check that sizes are positive.

    Raises
    ------
    ConfigError
        If a size is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            msg = f"model {model!r}: {name} must be 1 or more, got {size}"
            raise ConfigError(msg)


def check_name(model: str, spec: InputSpec) -> None:
    """Check that the name of an input can be part of a parameter's name.

    Raises
    ------
    ConfigError
        If the name is empty or contains a dot.
    """
    if not spec.name or "." in spec.name:
        msg = (
            f"model {model!r}: an input is called {spec.name!r}; as its name becomes "
            "part of names of parameters, it must not be empty or contain a dot"
        )
        raise ConfigError(msg)


def check_rate(model: str, **rates: float) -> None:
    """Check that dropout rates are in [0, 1).

    Raises
    ------
    ConfigError
        If a rate is not.
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            msg = f"model {model!r}: {name} must be in [0, 1), got {rate}"
            raise ConfigError(msg)
