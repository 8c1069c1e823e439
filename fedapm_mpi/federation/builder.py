"""Build plug-ins and models from a configuration, and check that they fit."""

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedapm_mpi.algorithms import Algorithm, ClientState
from fedapm_mpi.config.renamed_keys import parameter_names, with_new_options
from fedapm_mpi.config.schema import Config, PluginConfig
from fedapm_mpi.config.split_options import Split
from fedapm_mpi.data.manifest import InputSpec, Manifest
from fedapm_mpi.engine.model_tensors import cast, check_tensors
from fedapm_mpi.engine.partitioned_model import PartitionedModel, trainable
from fedapm_mpi.engine.tensor_files import READ_ERRORS, read_tensors
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.models import models
from fedapm_mpi.models.layers.named_inputs import needs_names, pass_by_name
from fedapm_mpi.optim.default_solver import PERSONAL
from fedapm_mpi.plugins.errors import is_expected, plugin_error
from fedapm_mpi.plugins.loader import load_plugin
from fedapm_mpi.plugins.names import is_user_plugin, plugin_label
from fedapm_mpi.registry import Registry, did_you_mean
from fedapm_mpi.utils.rng import Purpose, seeded_globals, torch_seed
from fedapm_mpi.utils.text import one_line


def build_plugin(registry: Registry[Any], part: dict[str, Any], *args: Any) -> Any:
    """Return a plug-in made from its name and options.

    Raises
    ------
    ConfigError
        If it cannot be made, say because a user's own factory fails.
    """
    options = {key: value for key, value in part.items() if key != "name"}
    factory = registry.get(part["name"])
    if registry.kind == "algorithm" and is_user_plugin(part["name"]):
        options = with_new_options(options, parameter_names(factory))
    try:
        return factory(*args, **options)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too, which a user's own may raise
        if is_expected(error):
            raise
        what = plugin_label(registry.kind, part["name"])
        raise plugin_error(what, error, building=True) from error


def build_module(
    config: Config, part: PluginConfig, inputs: tuple[InputSpec, ...], num_classes: int
) -> nn.Module:
    """Return a model with its initial parameters, which come from the seed alone."""
    seed, default = (
        torch_seed(config.seed, Purpose.INITIAL_MODEL),
        torch.get_default_dtype(),
    )
    with seeded_globals(seed):
        torch.manual_seed(seed)
        try:
            module: Any = build_plugin(models, part, inputs, num_classes)
        finally:
            torch.set_default_dtype(default)
    what = plugin_label("model", part["name"])
    if not isinstance(module, nn.Module):
        msg = (
            f"{what} returned {type(module).__name__}; the factory must return a "
            "torch.nn.Module"
        )
        raise ConfigError(msg)
    if needs_names(module, inputs):
        pass_by_name(module, inputs)
    try:
        check_tensors(module)
    except ConfigError as error:
        msg = f"{what}: {error}"
        raise ConfigError(msg) from error
    return cast(module, getattr(torch, config.dtype))


@torch.no_grad()
def load_initial(modules: Sequence[nn.Module], path: str) -> None:
    """Initialize models from a file of tensors by name; others keep their values.

    Raises
    ------
    ConfigError
        If it can't be read, or one of its tensors is of no model, or of another shape.
    """
    try:
        tensors = read_tensors(path)
    except READ_ERRORS as error:
        msg = f"initial_model: cannot read {path} as safetensors ({error})"
        raise ConfigError(msg) from error
    known: dict[str, list[Tensor]] = {}
    for module in modules:
        for name, own in [*module.named_parameters(), *module.named_buffers()]:
            known.setdefault(name, []).append(own)
    for name, tensor in tensors.items():
        if name not in known:
            msg = (
                f"initial_model: {path} holds {name!r}, which no model has"
                f"{did_you_mean(name, list(known))}"
            )
            raise ConfigError(msg)
        for own in known[name]:
            if own.shape != tensor.shape:
                msg = (
                    f"initial_model: {name!r} has the shape {tuple(tensor.shape)} in "
                    f"{path} and {tuple(own.shape)} in the model"
                )
                raise ConfigError(msg)
            if not _fits(tensor, own):
                msg = (
                    f"initial_model: {name!r} in {path} ({_dtype(tensor)}) cannot "
                    f"become {_dtype(own)}, as in the model, without a loss; store it "
                    "in the model's dtype"
                )
                raise ConfigError(msg)
            own.copy_(tensor)


@torch.no_grad()
def move_up(modules: Sequence[nn.Module], units: int) -> None:
    """Move every trainable parameter up, in place, by units in the last place.

    Real and imaginary part of a complex one are moved alike.
    """
    for module in modules:
        for _, parameter in trainable(module):
            own = torch.view_as_real(parameter) if parameter.is_complex() else parameter
            up = torch.full_like(own, torch.inf)
            for _ in range(units):
                own.copy_(torch.nextafter(own, up))


def _fits(tensor: Tensor, own: Tensor) -> bool:
    """Return whether a file's tensor keeps its meaning in a model's dtype.

    Floating values may be rounded; nothing else may change.
    """
    if tensor.is_complex() and not own.is_complex():
        return False
    if own.is_complex() or own.is_floating_point():
        finite = tensor.isfinite() == tensor.to(own.dtype).isfinite()
        return bool(finite.all())
    back = tensor.to(own.dtype).to(tensor.dtype)
    return torch.equal(back, tensor)


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def split_module(
    module: nn.Module,
    config: Config,
    sharing: str,
    elsewhere: Collection[str],
    *,
    takes_empty: bool = False,
) -> PartitionedModel:
    """Return a model split as the algorithm needs it.

    Parameters
    ----------
    module
        The model.
    config
        Whose split counts if `sharing` says so.
    sharing
        ``Algorithm.sharing``.
    elsewhere
        Names of parameters that other clients' models have.
    takes_empty
        Whether the algorithm takes a split that leaves one of the blocks empty.

    Raises
    ------
    ConfigError
        If the split does not fit the model, or not the algorithm.
    """
    if sharing == "all":
        return PartitionedModel(module, set())
    if sharing == "none":
        return PartitionedModel(module, {name for name, _ in trainable(module)})
    assert config.split is not None
    model = _split_as_configured(module, config.split, elsewhere)
    if not takes_empty:
        _check_both_sides(model, config.algorithm["name"])
    return model


def _split_as_configured(
    module: nn.Module, split: Split, elsewhere: Collection[str]
) -> PartitionedModel:
    if split.auto is not None:
        msg = (
            "split: auto is chosen by fedapm train, at the start of a run; here give "
            "the split that it chose, which the run's config.yaml has"
        )
        raise ConfigError(msg)
    if split.rule is not None:
        return PartitionedModel.from_rule(module, split_rule(split.rule))
    first, last = split.first or 0, split.last or 0
    if first or last:
        return PartitionedModel.from_position(module, first=first, last=last)
    names = [name for name, _ in trainable(module)]
    if split.personal == list(PERSONAL) and not _matched(names, elsewhere):
        msg = (
            "split: the model has no biases, which are personal by default; say which "
            "parameters are, for example split.personal=[head.*] or split.last=1 "
            f"(parameters: {', '.join(names)})"
        )
        raise ConfigError(msg)
    return PartitionedModel.from_patterns(
        module, personal=split.personal, shared=split.shared, elsewhere=elsewhere
    )


def _matched(names: Collection[str], elsewhere: Collection[str]) -> bool:
    """Return whether the default split makes any parameter personal."""
    every = {*names, *elsewhere}
    return any(fnmatchcase(name, pattern) for name in every for pattern in PERSONAL)


def _check_both_sides(model: PartitionedModel, algorithm: str) -> None:
    """Raise `ConfigError` unless something is personal, and something is shared."""
    if model.personal_names and model.shared_names:
        return
    empty = "shared" if model.personal_names else "personal"
    names = ", ".join(model.shared_names + model.personal_names)
    msg = (
        f"split: no parameter is {empty}; {plugin_label('algorithm', algorithm)} needs "
        f"both sides (parameters: {names}). To share everything use the algorithm "
        "fedavg, to share nothing use local; fedapm takes both as ends of its splits"
    )
    raise ConfigError(msg)


def split_rule(name: str) -> Callable[[str, Tensor], bool]:
    """Return a user's own split rule; what it gives is checked whenever it is called.

    Raises
    ------
    ConfigError
        If there is no such function.
    """
    if not is_user_plugin(name):
        msg = (
            f"split.rule: {one_line(name)!r} must be a function of your own, named "
            "module:function or ./file.py:function"
        )
        raise ConfigError(msg)
    rule, what = load_plugin("split rule", name), plugin_label("split rule", name)

    def checked(parameter: str, tensor: Tensor) -> bool:
        try:
            found = rule(parameter, tensor)
        except Exception as error:
            if is_expected(error):
                raise
            raise plugin_error(what, error, building=True) from error
        if not isinstance(found, bool | np.bool_):
            msg = (
                f"{what} gave {one_line(repr(found))} for {parameter!r}; it must "
                "return True where the parameter is personal, else False"
            )
            raise ConfigError(msg)
        return bool(found)

    return checked


def check_evaluation(config: Config, manifest: Manifest, algorithm: Algorithm) -> None:
    """Raise `ConfigError` unless data and algorithm allow the evaluation asked for."""
    split = config.evaluation.split
    if not manifest.counts.get(split, np.zeros(1)).any():
        msg = (
            f"evaluation.split is {split!r}, but {manifest.directory} has no {split} "
            f"samples; prepare it again with {split}=0.2, say"
        )
        raise ConfigError(msg)
    name, shared_block = config.algorithm["name"], config.evaluation.shared_block
    if shared_block != "server" and algorithm.has_personal_model:
        msg = (
            f"evaluation.shared_block is {shared_block!r}, but {name} "
            "evaluates the models that it makes for its clients; remove the key"
        )
        raise ConfigError(msg)
    if config.evaluation.fine_tune is None:
        return
    if algorithm.fine_tuning_budgets():
        msg = (
            f"evaluation.fine_tune: {name} fine-tunes its clients' models itself, as "
            "its own options say; remove the key, or train by a method that does not"
        )
        raise ConfigError(msg)
    if fine_tuning_batch_size(config, algorithm) is None:
        msg = (
            f"evaluation.fine_tune.batch_size: {name} does not say how many samples "
            "its mini-batches have; give a number"
        )
        raise ConfigError(msg)


def fine_tuning_batch_size(config: Config, algorithm: Algorithm) -> int | None:
    """Return the samples in a mini-batch of `evaluation.fine_tune`, if known."""
    tuning = config.evaluation.fine_tune
    if tuning is None or tuning.batch_size is None:
        return algorithm.mini_batch_size()
    return tuning.batch_size


def check_evaluated_blocks(
    config: Config, models: Collection[PartitionedModel]
) -> None:
    """Raise `ConfigError` if an evaluation needs a block that a model does not have."""
    tuning, name = config.evaluation.fine_tune, config.algorithm["name"]
    has_shared = all(len(model.shared) for model in models)
    if config.evaluation.shared_block == "both" and not has_shared:
        msg = (
            "evaluation.shared_block is 'both', but nothing is shared with algorithm "
            f"{name!r} and this split, so both are the same; remove the key"
        )
        raise ConfigError(msg)
    block = None if tuning is None else tuning.block
    if block == "shared" and not has_shared:
        msg = (
            "evaluation.fine_tune.block is 'shared', but nothing is shared with "
            f"algorithm {name!r} and this split; set it to personal or all"
        )
        raise ConfigError(msg)
    if block == "personal" and not all(len(model.personal) for model in models):
        msg = (
            "evaluation.fine_tune.block is 'personal', but nothing is personal with "
            f"algorithm {name!r} and this split; set it to shared or all"
        )
        raise ConfigError(msg)


def check_diagnostics(
    config: Config, algorithm: Algorithm, state: ClientState, *, shared: int
) -> None:
    """Raise `ConfigError` for what the algorithm, with such a client state, lacks.

    `shared` is the number of parameters that the server holds.
    """
    asked, has_dual = config.diagnostics, "dual" in state
    missing = [
        (key, what)
        for key, what, wanted, known in (
            ("tolerance", "duals and a penalty", config.tolerance is not None,
             has_dual and algorithm.admm_penalty() is not None),
            ("diagnostics.dual_sum", "duals", asked.dual_sum, has_dual),
            ("diagnostics.lagrangian", "an augmented Lagrangian", asked.lagrangian,
             algorithm.has_lagrangian),
        )
        if wanted and not known
    ]  # fmt: skip
    if missing:
        name = config.algorithm["name"]
        msg = "; ".join(
            f"{key} needs {what}, which {name} does not have: remove the key"
            for key, what in missing
        )
        raise ConfigError(msg)
    if asked.multiplier and not shared:
        msg = (
            "diagnostics.multiplier tests what is shared, but nothing is, with "
            f"algorithm {config.algorithm['name']!r} and this split; remove the key"
        )
        raise ConfigError(msg)
    if config.tolerance is not None and not shared:
        msg = (
            "tolerance: nothing is shared with algorithm "
            f"{config.algorithm['name']!r} and this split, so that it is met from the "
            "start; remove the key"
        )
        raise ConfigError(msg)
