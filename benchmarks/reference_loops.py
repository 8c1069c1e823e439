"""Rounds written by hand with nothing but PyTorch: what a trainer is measured by.

`plain` is how one would write them at first; `careful` is the same mathematics written
for the machine: colours innermost in memory, pooling before ReLU, a fused optimiser,
and the features of convolutions that are not trained computed once a phase. Both keep
every client's state in memory, evaluate participants on their own test images, and
average on the spot.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.workloads import BATCH, CLASSES, EPOCHS, LR, PENALTY, Part, participants

Style = Literal["plain", "careful"]
Extra = Callable[[list[Tensor]], None]
CONV = 4
"""Tensors of the two convolutions, which are shared; those of the head are personal."""


class Net(nn.Module):
    """The network for CIFAR-10, with its two halves apart."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(2048, 128)
        self.fc2 = nn.Linear(128, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Return (n, 2048)."""
        for conv in (self.conv1, self.conv2):
            if self.style == "plain":
                x = F.max_pool2d(F.relu(conv(x)), 2)
            else:
                x = F.relu(F.max_pool2d(conv(x), 2))
        return x.flatten(1)

    def head(self, h: Tensor) -> Tensor:
        """Return logits of features."""
        logits: Tensor = self.fc2(F.relu(self.fc1(h)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of images."""
        return self.head(self.features(x))


class Loop:
    """FedAPM or FedAvg, round by round.

    Parameters
    ----------
    algorithm
        ``fedapm`` or ``fedavg``.
    style
        How it is written.
    work
        The work's name, for the participants.
    x, labels, own
        All images, labels, and each client's rows.
    """

    def __init__(
        self,
        algorithm: str,
        style: Style,
        work: str,
        x: NDArray[np.float32],
        labels: NDArray[np.int64],
        own: list[Part],
    ) -> None:
        torch.manual_seed(0)
        self.algorithm, self.careful, self.work = algorithm, style == "careful", work
        self.net = Net(style)
        self.data = [
            [(self._laid_out(x[rows]), torch.from_numpy(labels[rows])) for rows in part]
            for part in own
        ]
        if self.careful:
            self.net = self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.weights = list(self.net.parameters())
        self.server = [w.detach().clone() for w in self.weights]
        self.clients = [[w.clone() for w in self.server] for _ in own]
        self.duals = [[torch.zeros_like(w) for w in self.server[:CONV]] for _ in own]

    def round(self, t: int) -> float:
        """Do round `t`; return the participants' mean accuracy."""
        chosen = participants(self.work, t)
        accuracies = [self._client(k) for k in chosen]
        with torch.no_grad():
            if self.algorithm == "fedapm":
                self._mean_of_votes()
            else:
                self._mean_of_models(chosen)
        return float(np.mean(accuracies))

    def _laid_out(self, x: NDArray[np.float32]) -> Tensor:
        tensor = torch.from_numpy(x)
        if self.careful:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def _client(self, k: int) -> float:
        (x, y), (x_test, y_test) = self.data[k]
        fedapm = self.algorithm == "fedapm"
        with torch.no_grad():
            start = self.server
            if fedapm:
                start = self.server[:CONV] + self.clients[k][CONV:]
            for weight, value in zip(self.weights, start, strict=True):
                weight.copy_(value)
        if fedapm:
            self._fedapm(k, x, y)
        else:
            self._epochs(x, y, [*self.weights], self.net, None)
        with torch.no_grad():
            for kept, weight in zip(self.clients[k], self.weights, strict=True):
                kept.copy_(weight)
            right = sum(
                int((self.net(a).argmax(1) == b).sum())
                for a, b in zip(
                    torch.split(x_test, BATCH), torch.split(y_test, BATCH), strict=True
                )
            )
        return right / max(1, len(y_test))

    def _fedapm(self, k: int, x: Tensor, y: Tensor) -> None:
        conv: list[Tensor] = [*self.weights[:CONV]]
        head: list[Tensor] = [*self.weights[CONV:]]
        share = 1 / len(self.clients)
        head_start, dual = self.clients[k][CONV:], self.duals[k]

        def proximal(gradients: list[Tensor]) -> None:
            torch._foreach_add_(gradients, head, alpha=PENALTY)
            torch._foreach_mul_(gradients, share)
            gap = torch._foreach_sub(head, head_start)
            torch._foreach_add_(gradients, gap, alpha=PENALTY)

        def augmented(gradients: list[Tensor]) -> None:
            torch._foreach_add_(gradients, conv, alpha=PENALTY)
            torch._foreach_mul_(gradients, share)
            torch._foreach_add_(gradients, dual)
            gap = torch._foreach_sub(conv, self.server[:CONV])
            torch._foreach_add_(gradients, gap, alpha=PENALTY)

        if self.careful:
            with torch.no_grad():
                features = torch.cat(
                    [self.net.features(a) for a in torch.split(x, BATCH)]
                )
            self._epochs(features, y, head, self.net.head, proximal)
        else:
            self._epochs(x, y, head, self.net, proximal)
        self._epochs(x, y, conv, self.net, augmented)
        with torch.no_grad():
            gap = torch._foreach_sub(conv, self.server[:CONV])
            torch._foreach_add_(dual, gap, alpha=PENALTY)

    def _epochs(
        self,
        x: Tensor,
        y: Tensor,
        trained: list[Tensor],
        model: Callable[[Tensor], Tensor],
        extra: Extra | None,
    ) -> None:
        chosen = {id(weight) for weight in trained}
        for weight in self.weights:
            weight.requires_grad_(id(weight) in chosen)
        optimiser = torch.optim.SGD(trained, lr=LR, fused=self.careful or None)
        for _ in range(EPOCHS):
            for rows in torch.split(torch.randperm(len(x)), BATCH):
                optimiser.zero_grad()
                loss = F.cross_entropy(model(x[rows]), y[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                if extra is not None:
                    with torch.no_grad():
                        extra([w.grad for w in trained if w.grad is not None])
                optimiser.step()

    def _mean_of_votes(self) -> None:
        m = len(self.clients)
        for j, mean in enumerate(self.server[:CONV]):
            mean.zero_()
            for client, dual in zip(self.clients, self.duals, strict=True):
                mean.add_(client[j], alpha=1 / m)
                mean.add_(dual[j], alpha=1 / (m * PENALTY))

    def _mean_of_models(self, chosen: list[int]) -> None:
        sizes = [len(self.data[k][0][1]) for k in chosen]
        for j, mean in enumerate(self.server):
            mean.zero_()
            for k, size in zip(chosen, sizes, strict=True):
                mean.add_(self.clients[k][j], alpha=size / sum(sizes))
