"""The gradients of many clients' models at once, as one batched product.

A stack holds the parameters of S clients as rows of matrices. A client's gradient is
what it would be alone but for the last bits, which depend neither on its place nor on
its neighbours: the shapes of all products are fixed, whatever the clients that are in
the stack and the samples that they have. `place_matters` looks whether that holds for a
model on this machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.engine.feature_cache import forward_stages, stages_of
from fedapm_mpi.engine.model_outputs import checked_outputs
from fedapm_mpi.engine.partitioned_model import PartitionedModel
from fedapm_mpi.errors import TrainingError
from fedapm_mpi.models.base import Stage
from fedapm_mpi.optim.local import Block

LANE = 32
"""Rows of matrices are multiples of this many numbers. A client's numbers are then
aligned alike in every row, on which the bits of a product may depend, and loops of
vector instructions have no rest, which the compiler could round otherwise. No built-in
optimizer was seen to do that."""

BY_SAMPLE = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus,
    nn.Identity,
)  # fmt: skip
"""Layers without parameters that work on each number by itself."""

RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU, nn.FractionalMaxPool2d)
RECURRENT = nn.RNNBase

POOL_BYTES = 2**24
"""Samples of the clients of a stack that are copied to one tensor, to be read from it
in one call; where they take more, each client's are read by themselves."""


class Pool:
    """The samples of a stack's clients, from which mini-batches are read.

    Parameters
    ----------
    clients
        By row of the stack its client's samples, all of the same kind.
    """

    def __init__(self, clients: Mapping[int, Samples]) -> None:
        self.clients = dict(clients)
        self._starts: dict[int, int] = {}
        self._tensors: list[Tensor] | None = None
        each = [_tensors_of(one) for one in clients.values()]
        if sum(x.numel() * x.itemsize for one in each for x in one) > POOL_BYTES:
            return
        self._tensors = [torch.cat(found) for found in zip(*each, strict=True)]
        start = 0
        for lane, samples in clients.items():
            self._starts[lane] = start
            start += len(samples.targets)

    def read(self, batches: Mapping[int, Tensor], into: Sequence[Tensor]) -> None:
        """Write mini-batches to the rows of all tensors, (S, width, ...) each.

        These are the inputs, targets and, if there are such, weights. A shorter one is
        followed by its first sample.
        """
        width = into[0].shape[1]
        if self._tensors is None:
            for lane, rows in batches.items():
                own = self.clients[lane]
                whole = _lengthened(rows, width)
                for x, there in zip(_tensors_of(own), into, strict=True):
                    torch.index_select(x, 0, whole, out=there[lane])
            return
        idle = torch.zeros(width, dtype=torch.int64)
        lanes = range(into[0].shape[0])
        index = torch.stack(
            [_lengthened(batches[k], width) if k in batches else idle for k in lanes]
        )
        index.add_(torch.tensor([[self._starts.get(k, 0)] for k in lanes]))
        for x, there in zip(self._tensors, into, strict=True):
            torch.index_select(x, 0, index.flatten(), out=there.flatten(0, 1))


def _tensors_of(samples: Samples) -> list[Tensor]:
    """Return the inputs, the targets and, if there are such, the weights."""
    weights = [] if samples.weights is None else [samples.weights]
    return [*samples.inputs, samples.targets, *weights]


def _lengthened(rows: Tensor, width: int) -> Tensor:
    """Return rows and, up to a length, the first of them again and again."""
    missing = width - rows.shape[0]
    return torch.cat([rows, rows[:1].expand(missing)]) if missing else rows


class _Parameter(NamedTuple):
    """A parameter of all clients of a stack."""

    name: str
    shared: bool
    values: Tensor
    """(S, *shape), a view of the stack's matrix."""

    gradient: Tensor
    """Likewise."""


class StackedModel:
    """The parameters of S clients with the same model, and their gradients.

    Parameters
    ----------
    model
        The model.
    size
        Number of clients S in a batched pass; rows without a client are idle.

    Attributes
    ----------
    shared, personal : (S, d_shared), (S, d_personal)
        The live parameters. Rows are further apart than they are long.
    shared_gradient, personal_gradient
        Gradients of the last pass, likewise.
    """

    def __init__(self, model: PartitionedModel, size: int) -> None:
        self.model, self.size = model, size
        lengths = (len(model.shared), len(model.personal))
        self._matrices = [torch.zeros(size, _padded(n), dtype=model.dtype)
                          for n in lengths * 2]  # fmt: skip
        shared, personal, shared_gradient, personal_gradient = self._matrices
        self.shared, self.personal = shared[:, : lengths[0]], personal[:, : lengths[1]]
        self.shared_gradient = shared_gradient[:, : lengths[0]]
        self.personal_gradient = personal_gradient[:, : lengths[1]]
        self.shared.copy_(model.shared)
        self.personal.copy_(model.personal)
        self._parameters = self._views()
        self._by_id = {
            id(parameter): one
            for parameter, one in zip(model.parameters(), self._parameters, strict=True)
        }
        self._trainable = ""
        self._forward: dict[int, Callable[[tuple[Tensor, ...]], Tensor]] = {}
        self._buffers: dict[tuple[object, ...], list[Tensor]] = {}
        self._weights: dict[int, tuple[Tensor, list[int]]] = {}

    def _views(self) -> list[_Parameter]:
        """Return the parameters, in the order of the model's vector."""
        found = []
        blocks = (
            (True, self.shared, self.shared_gradient, self.model.shared_shapes()),
            (
                False,
                self.personal,
                self.personal_gradient,
                self.model.personal_shapes(),
            ),
        )
        for shared, values, gradient, shapes in blocks:
            start = 0
            for name, shape in shapes.items():
                stop = start + torch.Size(shape).numel()
                view = values[:, start:stop].view(self.size, *shape).detach()
                there = gradient[:, start:stop].view(self.size, *shape)
                found.append(_Parameter(name, shared, view, there))
                start = stop
        return found

    def block(self, name: str) -> tuple[Tensor, Tensor]:
        """Return a block's whole matrix and that of its gradients, (S, padded)."""
        shared, personal, shared_gradient, personal_gradient = self._matrices
        if name == "shared":
            return shared, shared_gradient
        return personal, personal_gradient

    def gradients(
        self, block: Block, pool: Pool, batches: Mapping[int, Tensor], width: int
    ) -> list[float]:
        """Set the gradients of the clients' mean losses; return these losses.

        Parameters
        ----------
        block
            In which parameters.
        pool
            The clients' samples.
        batches
            By row of the stack the rows of its client's mini-batch.
        width
            Samples that each client has in the pass, some of them repeated.

        Returns
        -------
        list of float
            A loss for each row of the stack; idle ones have some number.

        Raises
        ------
        TrainingError
            If the model's outputs do not suit, or do not depend on the block.
        """
        inputs, targets, weights = self._gather(pool, batches, width)
        trained = [
            one for one in self._parameters
            if block == "both" or one.shared == (block == "shared")
        ]  # fmt: skip
        self._set_trainable(block)
        if not self.model.module.training:  # after an evaluation
            self.model.module.train()
        stage = next(iter(pool.clients.values())).stage
        outputs = self._run(stage, inputs).flatten(0, 1)
        task = self.model.task
        outputs = checked_outputs(outputs, len(outputs), task).to(self.model.dtype)
        losses = task.sample_losses(outputs, targets.flatten(0, 1)).view_as(weights)
        by_client = (losses * weights).sum(1)
        if not by_client.requires_grad:
            msg = (
                f"none of the {task.outputs} depends on a {block} parameter, so there "
                "is nothing to train; look at the split, or at the model's forward"
            )
            raise TrainingError(msg)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            by_client.sum(), [one.values for one in trained], allow_unused=True
        )
        for one, gradient in zip(trained, found, strict=True):
            if gradient is None:
                one.gradient.zero_()
            else:
                one.gradient.copy_(gradient)
        values: list[float] = by_client.detach().tolist()
        return values

    def _set_trainable(self, block: Block) -> None:
        if block == self._trainable:
            return
        for one in self._parameters:
            one.values.requires_grad_(
                block == "both" or one.shared == (block == "shared")
            )
        self._trainable = block

    def _gather(
        self, pool: Pool, batches: Mapping[int, Tensor], width: int
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return inputs (S, width, ...), targets and weights (S, width)."""
        first = next(iter(pool.clients.values()))
        kind = (width, *((x.shape[1:], x.dtype) for x in first.inputs))
        if kind not in self._buffers:
            self._buffers[kind] = [
                x.new_zeros(self.size, width, *x.shape[1:]) for x in _tensors_of(first)
            ]
        if width not in self._weights:
            zeros = torch.zeros(self.size, width, dtype=self.model.dtype)
            self._weights[width] = (zeros, [0] * self.size)
        weights, lengths = self._weights[width]
        for lane, rows in batches.items():
            n = rows.shape[0]  # several times faster than len
            if lengths[lane] != n:
                lengths[lane] = n
                weights[lane, :n] = 1 / n
                weights[lane, n:] = 0
        into = self._buffers[kind]
        pool.read(batches, into)
        inputs, (targets, *own) = into[: len(first.inputs)], into[len(first.inputs) :]
        return inputs, targets, weights * own[0] if own else weights

    def _run(self, stage: int, inputs: list[Tensor]) -> Tensor:
        """Return the outputs of all clients' models, (S, width, ...)."""
        if stage not in self._forward:
            self._forward[stage] = self._dense(stage) or self._mapped(stage)
        return self._forward[stage](tuple(inputs))

    def _dense(self, stage: int) -> Callable[[tuple[Tensor, ...]], Tensor] | None:
        """Return the forward pass of a model of dense layers; `None` for others."""
        stages = stages_of(self.model.module)
        if not stages or not all(map(_is_dense, stages[stage:])):
            return None
        ahead = stages[:1] if not stage and not stages[0].modules else []
        rest = stages[max(stage, len(ahead)) :]
        runs = [self._layer(one) for one in rest]

        def forward(inputs: tuple[Tensor, ...]) -> Tensor:
            found = inputs[0]
            if ahead:
                found = _by_sample(ahead[0], *inputs)
            for run in runs:
                found = run(found)
            return found

        return forward

    def _layer(self, stage: Stage) -> Callable[[Tensor], Tensor]:
        """Return a layer for all clients."""
        layer = stage.modules[0] if stage.modules else None
        if not isinstance(layer, nn.Linear):
            return lambda x: _by_sample(stage, x)
        weights = self._values(layer.weight)
        # Views are made in each pass: which parameters have gradients may change.
        bias: Tensor | None = layer.bias
        if bias is None:
            return lambda x: torch.bmm(x, weights.transpose(1, 2))
        biases = self._values(bias)
        return lambda x: torch.baddbmm(biases.unsqueeze(1), x, weights.transpose(1, 2))

    def _values(self, parameter: Tensor) -> Tensor:
        """Return a parameter of all clients, (S, *shape); of a frozen one, the same."""
        found = self._by_id.get(id(parameter))
        if found is None:
            return parameter.detach().expand(self.size, *parameter.shape)
        return found.values

    def _mapped(self, stage: int) -> Callable[[tuple[Tensor, ...]], Tensor]:
        """Return the forward pass of any model, by torch's own batching."""
        rest = _Rest(self.model.module, stage)
        names = [f"module.{one.name}" for one in self._parameters]

        def alone(values: list[Tensor], *inputs: Tensor) -> Tensor:
            found: Tensor = functional_call(
                rest, dict(zip(names, values, strict=True)), inputs
            )
            return checked_outputs(found, inputs[0].shape[0], self.model.task)

        def forward(inputs: tuple[Tensor, ...]) -> Tensor:
            values = [one.values for one in self._parameters]
            found: Tensor = vmap(alone)(values, *inputs)
            return found

        return forward


class _Rest(nn.Module):
    """A module from one of its stages on."""

    def __init__(self, module: nn.Module, stage: int) -> None:
        super().__init__()
        self.module, self._stage = module, stage

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return its outputs."""
        if not self._stage:
            found: Tensor = self.module(*inputs)
            return found
        samples = Samples(inputs, {}, inputs[0], self._stage)
        return forward_stages(stages_of(self.module), samples)


def _by_sample(stage: Stage, *inputs: Tensor) -> Tensor:
    """Return what a stage without parameters makes of all clients' samples."""
    lanes = inputs[0].shape[:2]
    found = stage.run(*(x.flatten(0, 1) for x in inputs))
    return found.view(*lanes, *found.shape[1:])


def _padded(length: int) -> int:
    return -(-length // LANE) * LANE


def _is_dense(stage: Stage) -> bool:
    if not stage.modules:
        return True
    (layer, *others) = stage.modules
    if others or stage.run is not layer:
        return False
    return type(layer) in (nn.Linear, *BY_SAMPLE)


def is_dense(module: nn.Module) -> bool:
    """Return whether all layers of a module are dense, or work number by number."""
    stages = stages_of(module)
    return bool(stages) and all(map(_is_dense, stages))


def unstackable(model: PartitionedModel) -> str:
    """Return why a model cannot be stacked, in words; empty if it can."""
    if model.buffer_layout:
        return "it has buffers"
    for name, part in model.module.named_modules():
        if isinstance(part, RECURRENT):
            return f"{name} is recurrent"
        drawn = getattr(part, "p", 1.0) if isinstance(part, RANDOM) else 0.0
        if drawn:
            return f"{name} draws random numbers"
    return "it draws random numbers" if model.draws else ""


def place_matters(model: PartitionedModel, size: int, work: Sequence[Samples]) -> str:
    """Return what is wrong with stacks of a model on this machine; empty if nothing.

    Gradients of clients in one order are compared with those in another, with other
    neighbours, and with some alone.

    Parameters
    ----------
    model
        The model.
    size
        Clients S of a stack.
    work
        Samples of two clients or more.
    """
    stacked = StackedModel(model, size)
    generator = torch.Generator().manual_seed(0)
    count = 2 * size
    drawn = [
        torch.rand(count, len(vector), generator=generator, dtype=model.dtype) - 0.5
        for vector in (model.shared, model.personal)
    ]
    found: list[dict[int, tuple[Tensor, Tensor]]] = []
    width = max(len(one.targets) for one in work)
    orders = [list(range(count)), [(7 * k + 3) % count for k in range(count)]]
    if count % 7 == 0:
        orders[1] = list(reversed(range(count)))
    orders.append(list(range(0, count, 3)))
    for order in orders:
        gradients: dict[int, tuple[Tensor, Tensor]] = {}
        for start in range(0, len(order), size):
            members = order[start : start + size]
            for lane, k in enumerate(members):
                stacked.shared[lane].copy_(drawn[0][k])
                stacked.personal[lane].copy_(drawn[1][k])
            pool = Pool({lane: work[k % len(work)] for lane, k in enumerate(members)})
            stacked.gradients("both", pool, _batches_of(members, work), width)
            for lane, k in enumerate(members):
                gradients[k] = (
                    stacked.shared_gradient[lane].clone(),
                    stacked.personal_gradient[lane].clone(),
                )
        found.append(gradients)
    for other in found[1:]:
        for k, both in other.items():
            if not all(map(torch.equal, both, found[0][k])):
                return "its gradients depend on the place in a stack"
    return ""


def _batches_of(
    members: Sequence[int], samples: Sequence[Samples]
) -> dict[int, Tensor]:
    """Return mini-batches of several lengths, the same for a member in any order."""
    lengths = [max(1, len(samples[k % len(samples)].targets) - k % 3) for k in members]
    return {lane: torch.arange(length) for lane, length in enumerate(lengths)}
