r"""FedAPM a second time: slow, literal, one dictionary entry per parameter.

Written from the paper's algorithm (arXiv 2506.04672) to be compared with the package,
whose code it does not use. It differs from it in every choice that should not matter:
parameters are kept by name and never flattened, gradients come from
`torch.autograd.grad` on leaves of their own, local models are always float64, and the
server forgets everything between rounds and takes the mean over *all* clients of

.. math:: z_i = u_i + \pi_i / \rho

again, where the package adds up increments.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Named = dict[str, Tensor]
Loss = Callable[[Named, int, Sequence[int]], Tensor]
"""The mean loss of (all parameters by name, client, rows of the mini-batch)."""

Batches = Callable[[int, Literal["personal", "shared"]], Iterable[Sequence[int]]]
"""The mini-batches of (client, phase), as lists of rows."""


@dataclass(frozen=True)
class Options:
    """Hyper-parameters, under the specification's names."""

    rho: float
    sigma: float
    lr_personal: float
    lr_shared: float
    weight_decay: float = 0.0
    v_step_at: Literal["global", "local"] = "global"
    u_init: Literal["global", "local"] = "global"
    alpha_in_v_step: bool = True
    adam: tuple[float, float, float] | None = None
    """Adam's decay rates and its epsilon; plain steps unless given."""

    factor: Callable[[int], float] | None = None
    """Factor of both step sizes in round t, from 0 on; 1 unless given."""


class Adam:
    """The steps of a phase, by Kingma and Ba's algorithm 1 (ICLR 2015)."""

    def __init__(self, beta1: float, beta2: float, epsilon: float) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.mean: Named = {}
        self.square: Named = {}
        self.count = 0

    def direction(self, slopes: Named) -> Named:
        """Return what the step size multiplies."""
        self.count += 1
        found = {}
        for name, g in slopes.items():
            zero = torch.zeros_like(g)
            mean = self.mean.get(name, zero)
            square = self.square.get(name, zero)
            self.mean[name] = self.beta1 * mean + (1 - self.beta1) * g
            self.square[name] = self.beta2 * square + (1 - self.beta2) * g**2
            m = self.mean[name] / (1 - self.beta1**self.count)
            s = self.square[name] / (1 - self.beta2**self.count)
            found[name] = m / (s.sqrt() + self.epsilon)
        return found


class Oracle:
    """Server and clients.

    Parameters
    ----------
    options
        Hyper-parameters.
    initial
        Every parameter of the common initial model, by name.
    personal
        Names of the personal ones.
    alpha
        Factor of each client's loss in its local problems: its weight in the objective,
        or 1 in units of its own loss.
    loss
        The clients' losses.
    shares
        Weight of each client in the server's mean; all alike unless given.

    Attributes
    ----------
    v, u, pi : list of dict
        The clients' personal and shared parameters and dual variables.
    server : dict
        The mean of the clients' z, as it was last recomputed.
    """

    def __init__(
        self,
        options: Options,
        initial: Named,
        personal: Iterable[str],
        alpha: Sequence[float],
        loss: Loss,
        shares: Sequence[float] | None = None,
    ) -> None:
        self.shares = [1.0] * len(alpha) if shares is None else list(shares)
        self.options, self.alpha, self.loss = options, list(alpha), loss
        self.m = len(self.alpha)
        mine = set(personal)
        start = {name: value.detach().double() for name, value in initial.items()}
        v = {name: value for name, value in start.items() if name in mine}
        u = {name: value for name, value in start.items() if name not in mine}
        self.v = [deepcopy(v) for _ in self.alpha]
        self.u = [deepcopy(u) for _ in self.alpha]
        self.pi = [
            {name: torch.zeros_like(value) for name, value in u.items()}
            for _ in self.alpha
        ]
        self.server = self.mean_vote()
        self.rounds = 0

    def mean_vote(self) -> Named:
        """Return the mean over all m clients of u_i + pi_i / rho."""
        result = {}
        for name in self.u[0]:
            total = torch.zeros_like(self.u[0][name])
            for i in range(self.m):
                vote = self.u[i][name] + self.pi[i][name] / self.options.rho
                total = total + self.shares[i] * vote
            result[name] = total / sum(self.shares)
        return result

    def round(self, participants: Iterable[int], batches: Batches) -> None:
        """Run one round: the participants one after the other, then the server."""
        sent = self.mean_vote()
        for i in participants:
            self._personal_phase(i, sent, batches(i, "personal"))
            self._shared_phase(i, sent, batches(i, "shared"))
            self._dual_step(i, sent)
        self.server = self.mean_vote()
        self.rounds += 1

    def missed(self, i: int, rows: Sequence[int]) -> float:
        """Return how far client i is from having solved its last shared problem.

        That is the squared norm of alpha (grad_u f + mu u) + pi + rho (u_i - u^t) on
        the given rows, with the dual of before; by the dual step, the last two terms
        are the dual of after.
        """
        slopes = self._gradient(self.v[i], self.u[i], i, rows, of="u")
        total = 0.0
        for name, u in self.u[i].items():
            fit = self.alpha[i] * (slopes[name] + self.options.weight_decay * u)
            total += float(((fit + self.pi[i][name]) ** 2).sum())
        return total

    def _personal_phase(
        self, i: int, sent: Named, batches: Iterable[Sequence[int]]
    ) -> None:
        options = self.options
        centre = deepcopy(self.v[i])
        u = self.u[i] if options.v_step_at == "local" else sent
        alpha = self.alpha[i] if options.alpha_in_v_step else 1.0
        v = centre
        step = self._steps(options.lr_personal)
        for rows in batches:
            slopes = self._gradient(v, u, i, rows, of="v")
            whole = {}
            for name in v:
                fit = alpha * (slopes[name] + options.weight_decay * v[name])
                pull = options.sigma * (v[name] - centre[name])
                whole[name] = fit + pull
            v = step(v, whole)
        self.v[i] = v

    def _shared_phase(
        self, i: int, sent: Named, batches: Iterable[Sequence[int]]
    ) -> None:
        options = self.options
        u = self.u[i] if options.u_init == "local" else sent
        step = self._steps(options.lr_shared)
        for rows in batches:
            slopes = self._gradient(self.v[i], u, i, rows, of="u")
            whole = {}
            for name in u:
                fit = self.alpha[i] * (slopes[name] + options.weight_decay * u[name])
                pull = self.pi[i][name] + options.rho * (u[name] - sent[name])
                whole[name] = fit + pull
            u = step(u, whole)
        self.u[i] = deepcopy(u)

    def _steps(self, lr: float) -> Callable[[Named, Named], Named]:
        """Return the step of one phase, from where it is and the gradient there."""
        options = self.options
        size = lr if options.factor is None else lr * options.factor(self.rounds)
        adam = None if options.adam is None else Adam(*options.adam)

        def step(at: Named, slopes: Named) -> Named:
            way = slopes if adam is None else adam.direction(slopes)
            return {name: at[name] - size * way[name] for name in at}

        return step

    def _dual_step(self, i: int, sent: Named) -> None:
        rho = self.options.rho
        self.pi[i] = {
            name: self.pi[i][name] + rho * (self.u[i][name] - sent[name])
            for name in sent
        }

    def _gradient(
        self, v: Named, u: Named, i: int, rows: Sequence[int], *, of: Literal["u", "v"]
    ) -> Named:
        wanted, fixed = (v, u) if of == "v" else (u, v)
        leaves = {
            name: value.clone().requires_grad_() for name, value in wanted.items()
        }
        loss = self.loss(fixed | leaves, i, rows)
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        return dict(zip(leaves, slopes, strict=True))


def network_loss(clients: Sequence[tuple[Tensor, Tensor]]) -> Loss:
    """Return the mean cross-entropy of two layers on the clients' (inputs, labels).

    The layers are "front", a ReLU and "head".
    """
    clients = [(inputs.double(), labels) for inputs, labels in clients]

    def loss(named: Named, i: int, rows: Sequence[int]) -> Tensor:
        inputs, labels = (whole[list(rows)] for whole in clients[i])
        hidden = (inputs @ named["front.weight"].T + named["front.bias"]).relu()
        logits = hidden @ named["head.weight"].T + named["head.bias"]
        chosen = logits[torch.arange(len(rows)), labels]
        return (logits.logsumexp(1) - chosen).sum() / len(rows)

    return loss
