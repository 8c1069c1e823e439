"""The server's shared vector, and what of it the clients of each group hold.

Clients may have different models. What their models share lies in one vector at the
server, named parameter after named parameter. A group of clients with the same model
may hold all of it or some of its parameters; its clients' vectors have those alone, in
the order of their own model.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a model's shared parameters by name, in its order."""


class Segment(NamedTuple):
    """A stretch of the server's vector that is held by the same groups throughout."""

    place: slice
    groups: tuple[int, ...]


class SharedLayout:
    """Where each shared parameter lies, at the server and at the clients of a group.

    Parameters
    ----------
    groups
        Of each group of clients, what its model shares. Parameters of the same name
        must have the same shape.

    Attributes
    ----------
    shapes
        All shared parameters: the first group's in its order, then those that it does
        not hold, as they first occur.
    places
        Name to slice of the server's vector.
    size
        Length d of the server's vector.
    sections
        The server's vector cut where its holders change; together they are all of it.
    """

    def __init__(self, groups: Sequence[Shapes]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        for group in groups:
            self.shapes |= {n: s for n, s in group.items() if n not in self.shapes}
        self.places, self.size = _places(self.shapes)
        self._local = [_places(group)[0] for group in groups]
        self.sections = self._sections()
        self._moves = [self._joined(places) for places in self._local]

    def local(self, group: int, name: str) -> slice | None:
        """Return where a parameter lies in the vectors of a group, if it is there."""
        return self._local[group].get(name)

    def restrict(self, group: int, values: Tensor) -> Tensor:
        """Return what a group holds of (…, d) values; a view if that is all of them."""
        moves = self._moves[group]
        if moves is None:
            return values
        parts = [values[..., server] for _, server in moves]
        return torch.cat([values[..., :0], *parts], dim=-1)

    def extend(self, group: int, values: Tensor) -> Tensor:
        """Return values of a group in the server's places, (…, d), and 0 elsewhere."""
        moves = self._moves[group]
        if moves is None:
            return values
        result = values.new_zeros(*values.shape[:-1], self.size)
        for local, server in moves:
            result[..., server] = values[..., local]
        return result

    def named(self, values: Tensor) -> dict[str, Tensor]:
        """Return the server's (d,) values as tensors by parameter name."""
        return {n: values[at].view(self.shapes[n]) for n, at in self.places.items()}

    def holders(self, name: str) -> tuple[int, ...]:
        """Return the groups that hold a parameter."""
        return tuple(g for g, held in enumerate(self._local) if name in held)

    def _sections(self) -> list[Segment]:
        found = []
        for groups, names in groupby(self.places, key=self.holders):
            places = [self.places[name] for name in names]
            found.append(Segment(slice(places[0].start, places[-1].stop), groups))
        return found

    def _joined(self, places: Mapping[str, slice]) -> list[tuple[slice, slice]] | None:
        """Return (local, server) slices that lie side by side; `None` for the whole."""
        moves: list[tuple[slice, slice]] = []
        for name, local in places.items():
            server = self.places[name]
            if moves and moves[-1][1].stop == server.start:
                before, start = moves.pop()
                local = slice(before.start, local.stop)
                server = slice(start.start, server.stop)
            moves.append((local, server))
        whole = [(slice(0, self.size),) * 2] if self.size else []
        return None if moves == whole else moves


def _places(shapes: Shapes) -> tuple[dict[str, slice], int]:
    places, start = {}, 0
    for name, shape in shapes.items():
        stop = start + prod(shape)
        places[name] = slice(start, stop)
        start = stop
    return places, start
