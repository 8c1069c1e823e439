"""The schema of an experiment: one tree of plain values, the same on every rank.

Only rank 0 reads and validates a configuration (`loader`). The other ranks get it as
plain values, so that they need not import the libraries that do this.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from fedapm_mpi.config.evaluation_options import Evaluation
from fedapm_mpi.config.split_options import Split, exactly_one
from fedapm_mpi.optim.clip_options import Clip
from fedapm_mpi.utils.kernels import PORTABLE
from fedapm_mpi.utils.types import NonNegativeFloat, NonNegativeInt, PositiveInt, strict

PluginConfig = dict[str, Any]
"""A plug-in by name, with its options: ``{name: fedapm, rho: 0.01, ...}``."""

DEFAULT_ROUNDS = 30

MAX_THREADS = 1024
"""Threads that a rank may have; with more, libraries may run out of memory and exit."""

MAX_STACKED = 1024
"""Clients that may be trained together."""

MAX_REPLICATE = 100
"""Replicates of a seed: with this many units in the last place, still rounding."""


@strict
@dataclass(frozen=True, kw_only=True)
class Group:
    """Clients with another model than the rest, selected in one of three ways."""

    model: PluginConfig
    """Their model; options without a name are added to those of the main model."""

    clients: list[int | str] | None = None
    """Numbers of clients, and ranges such as ``"0-9"``."""

    names: list[str] | None = None
    """Glob patterns of clients' names."""

    missing_inputs: list[str] | None = None
    """Inputs: the clients that lack exactly these are meant."""

    inputs: list[str] | None = None
    """Inputs that the model gets; by default all that are not in `missing_inputs`."""

    def __post_init__(self) -> None:
        ways = {
            "clients": self.clients,
            "names": self.names,
            "missing_inputs": self.missing_inputs,
        }
        exactly_one(ways)


@strict
@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """What is measured of consensus, beyond the drift of every round."""

    every: PositiveInt = 1
    """Rounds between primal residuals, each of which reads all clients' copies of the
    shared block (but no data)."""

    blocks: bool = False
    """Whether residuals are also recorded for each shared parameter, by name."""

    dual_sum: bool = False
    """Whether to record the norm of the sum of all duals, which tends to 0. Clients
    then send the change of their dual with their update: twice the bytes."""

    multiplier: bool = False
    """Whether evaluations include the multiplier test of every shared layer, LM: about
    1 where clients agree, more the more they differ. A pass over the training samples
    of all clients that have taken part, with a gradient for each sample."""

    lagrangian: bool = False
    """Whether evaluations include the augmented Lagrangian and the Lyapunov function, a
    pass over all clients' training samples."""


@strict
@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The textbook stop rule: both residuals below an absolute and a relative part.

    It is not applied before every client has taken part once.
    """

    absolute: NonNegativeFloat = 0.0
    """For each entry of the clients' copies of u, in its units (dual: of the loss)."""

    relative: NonNegativeFloat = 0.0
    """Of the norms that the residuals are compared with."""

    def __post_init__(self) -> None:
        if self.absolute == 0 and self.relative == 0:
            msg = "give absolute or relative, or both, above 0"
            raise ValueError(msg)


@strict
@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state of a run is saved."""

    every: PositiveInt = 10
    """Rounds between checkpoints; one is also written on an early stop."""

    keep: PositiveInt = 2
    """Checkpoints to keep; older ones are removed once a newer one is complete."""


@strict
@dataclass(frozen=True, kw_only=True)
class Config:
    """One experiment."""

    data: str
    """Directory of a prepared data set."""

    clients: PositiveInt | None = None
    """Number of clients, taken from the first of the data set on; `None` for all."""

    model: PluginConfig
    """Model and its options; ``module:factory`` for your own."""

    algorithm: PluginConfig
    """Algorithm and its hyper-parameters."""

    optimizer: PluginConfig | None = None
    """Optimizer of the local steps with its options; unless given, plain SGD, or Adam
    where the algorithm's step sizes are left out as well.
    ``module:name`` for your own, or a class of torch's kind. ``state: keep`` keeps its
    state from one participation to the next, ``reset`` does not. ``personal`` and
    ``shared`` have other options for one block."""

    schedule: PluginConfig | None = None
    """Step sizes over the rounds, as factors of the algorithm's; unless given,
    constant, or a cosine where step sizes are left out as well. Ahead of it ``warmup``
    rounds; it ends after ``rounds``, by default those of the run, also when that is
    continued for more; ``unit: step`` also changes step sizes within a round.
    ``personal`` and ``shared`` have other options for one block."""

    clip: Clip | None = None
    """Bound of what each local step follows."""

    accumulate_batches: PositiveInt = 1
    """Mini-batches whose mean gradient makes one local step."""

    task: PluginConfig = field(default_factory=lambda: {"name": "classification"})
    """Loss, predictions and metrics; ``module:name`` for your own."""

    initial_model: str | None = None
    """File of tensors by name (safetensors) that models start from, such as another
    run's ``final/shared.safetensors``; other tensors are initialized from the seed."""

    rounds: PositiveInt = DEFAULT_ROUNDS
    """Communication rounds."""

    split: Split | None = None
    """Which parameters are shared and which personal, for algorithms with both;
    ``auto`` chooses. Unless it is given, biases are personal; of the paper's models of
    several inputs the parts that read them; with FedPer, FedRep and FedBABU the last
    layer."""

    groups: list[Group] = field(default_factory=list)
    """Clients with another model; its shared parameters must have the same shapes."""

    partially_shared: list[str] | None = None
    """Glob patterns of shared parameters that some groups' models may lack; each is
    averaged over the clients that have it. If groups differ in any other, the run is
    refused."""

    participation: PluginConfig = field(default_factory=lambda: {"name": "full"})
    """How each round's participants are chosen."""

    client_weights: Literal["uniform", "samples"] = "uniform"
    """Weights alpha_i of the clients in the objective: 1/m, or n_i/n."""

    seed: NonNegativeInt = 0
    """Seed of everything random in the run."""

    replicate: Annotated[int, Ge(0), Le(MAX_REPLICATE)] = 0
    """Number of a replicate: each parameter of the initial model is moved up by this
    many units in the last place, as little as rounding moves it. Runs that differ in it
    alone show how far results depend on rounding, and so on the processor."""

    dtype: Literal["float32", "float64"] = "float32"
    """Precision of models, client states and messages."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where clients are trained and evaluated. With ``cuda`` the ranks of a node take
    its GPUs in turn, several sharing one if need be; the server has none. Last bits
    differ between kinds of device."""

    precision: Literal["full", "bf16"] = "full"
    """Arithmetic of training passes: that of `dtype`, or torch's autocast to bfloat16.
    Parameters, updates and evaluation always have `dtype`."""

    kernels: Literal["native", "portable"] = "native"
    """Instructions of the numerical libraries: the processor's best, with last bits
    that differ between processors, or, with ``portable``, those that give the same bits
    on every x86-64 processor with AVX2 and FMA. It needs ``threads: 1``."""

    threads: Annotated[int, Ge(1), Le(MAX_THREADS)] | Literal["auto"] = 1
    """Threads of a rank; ``auto`` takes as many as fit on the cores of the ranks. A
    different number may change the last bits, so a resumed run keeps it."""

    stacked: Annotated[int, Ge(2), Le(MAX_STACKED)] | Literal["auto", "off"] = "off"
    """Clients that a rank trains together, as rows of batched products: two to three
    times as fast for small models, with other last bits than one by one. ``auto`` does
    so for models of dense layers. What cannot be stacked is trained one by one."""

    buffers: Literal["local", "mean"] = "local"
    """Floating-point buffers such as BatchNorm statistics: kept by each client, or
    replaced by the participants' mean. Integer counters are always kept."""

    last_batch: Literal["auto", "keep", "drop", "merge"] = "auto"
    """How an epoch's last batch is used if it is smaller than the others: ``keep``
    trains on it, ``drop`` leaves it out (but never the only batch of an epoch),
    ``merge`` adds it to the batch before. ``auto`` keeps it, but adds a single sample
    to the batch before if the model cannot be trained on one sample, as with
    BatchNorm."""

    evaluation: Evaluation = field(default_factory=Evaluation)
    diagnostics: Diagnostics = field(default_factory=Diagnostics)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)

    tolerance: Tolerance | None = None
    """End before `rounds` once the residuals of an ADMM method are this small."""

    placement: PluginConfig = field(default_factory=lambda: {"name": "cost"})
    """How clients are placed on ranks; results do not depend on it."""

    scheduling: Literal["dynamic", "static"] = "dynamic"
    """``dynamic``: a round's participants are assigned to the next free rank of their
    node, the largest first; the ranks of a node share client states. ``static``:
    clients stay on the rank where they were placed."""

    scratch: str | None = None
    """Folder, preferably on a local disk of each node, for a memory-mapped file with
    states and samples of clients, which may be larger than memory; the file is removed
    at the end of the run."""

    stage_dir: str | None = None
    """Folder on a disk of each node, such as ``$TMPDIR``, to which the shards of its
    clients are copied and checked first; the copies are kept."""

    aggregator: PluginConfig = field(default_factory=lambda: {"name": "exact"})
    """How updates are summed over ranks."""

    update_transforms: list[PluginConfig] = field(default_factory=list)
    """Transforms of what each client sends, such as clipping, applied in this order
    before the sum, and in the reverse order to the sum."""

    metrics: list[PluginConfig] = field(default_factory=list)
    """Metrics that are added to the task's, such as ``torchmetrics:MulticlassMCC`` or
    your own; they are in records, tables and plots, per client and pooled."""

    loggers: list[PluginConfig] = field(
        default_factory=lambda: [{"name": "jsonl"}, {"name": "progress"}]
    )
    """Loggers that get the metrics of each round; ``jsonl`` writes ``rounds.jsonl``."""

    def __post_init__(self) -> None:
        if self.precision == "bf16" and self.dtype != "float32":
            msg = "precision 'bf16' needs dtype 'float32'"
            raise ValueError(msg)
        if self.kernels == PORTABLE:
            self._check_portable()
        for key in ("data", "initial_model", "scratch", "stage_dir"):
            if "\0" in (getattr(self, key) or ""):
                msg = f"{key}: no path holds the character NUL"
                raise ValueError(msg)

    def _check_portable(self) -> None:
        """Refuse what no switch makes the same on all processors."""
        for key, value, remedy in (
            ("device", "cpu", "a GPU rounds in its own way"),
            ("threads", 1, "sums of several threads depend on how many there are"),
            ("precision", "full", "bfloat16 is computed as the processor can"),
        ):
            if getattr(self, key) != value:
                msg = f"kernels 'portable' needs {key}: {value}; {remedy}"
                raise ValueError(msg)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Config":
        """Return a configuration from values that were already validated."""
        nested: dict[str, Any] = dict(values)
        kinds: tuple[tuple[str, Callable[..., Any]], ...] = (
            ("split", Split.from_plain),
            ("evaluation", Evaluation.from_plain),
            ("diagnostics", Diagnostics),
            ("checkpoint", Checkpoint),
            ("tolerance", Tolerance),
            ("clip", Clip),
        )
        for key, kind in kinds:
            if nested.get(key) is not None:
                nested[key] = kind(**nested[key])
        nested["groups"] = [Group(**group) for group in nested.get("groups", ())]
        return cls(**nested)

    def plain(self) -> dict[str, Any]:
        """Return the configuration as plain values."""
        return asdict(self)


PLUGIN_KINDS = (
    "model",
    "algorithm",
    "optimizer",
    "schedule",
    "task",
    "participation",
    "placement",
    "aggregator",
)
"""Keys whose values are plug-ins, found by name and built with their options."""

PLUGIN_LISTS = ("update_transforms", "metrics")
"""Keys whose values are lists of plug-ins; `loggers` is one more, with own rules."""

RESULT_NEUTRAL = (
    "rounds",
    "placement",
    "scheduling",
    "scratch",
    "stage_dir",
    "checkpoint",
    "data",
    "initial_model",
    "loggers",
)
"""Keys in which a resumed run may differ from its first start: they change how far it
goes, where clients live or what is kept or shown, but no bit of any round. (`data` and
`initial_model` may move; the manifest's and the file's hash are compared instead.)"""
