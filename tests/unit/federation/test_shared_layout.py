"""What of the server's vector the clients of each group hold, against plain dicts."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedapm_mpi.federation.shared_layout import SharedLayout

SHAPES = {"a": (2,), "b": (2, 3), "c": (), "d": (0, 2), "e": (1,)}


@st.composite
def groups(draw):
    """Return some groups' shared parameters, each in an order of its own."""
    number = draw(st.integers(1, 4))
    orders = [draw(st.permutations(sorted(SHAPES))) for _ in range(number)]
    held = [draw(st.sets(st.sampled_from(sorted(SHAPES)))) for _ in range(number)]
    return [
        {name: SHAPES[name] for name in order if name in own}
        for order, own in zip(orders, held, strict=True)
    ]


def numbers(shapes, start):
    """Return tensors by name, each number its own."""
    found = {}
    for name, shape in shapes.items():
        size = torch.Size(shape).numel()
        found[name] = torch.arange(start, start + size).double().view(shape)
        start += size
    return found


def joined(named):
    parts = [tensor.reshape(-1) for tensor in named.values()]
    return torch.cat([torch.zeros(0).double(), *parts])


@given(groups())
def test_take_and_spread_go_by_name(held):
    space = SharedLayout(held)
    everything = numbers(space.shapes, 1)
    vector = joined(everything)
    assert len(vector) == space.size
    named = space.named(vector)
    assert all(torch.equal(named[name], everything[name]) for name in everything)
    for g, own in enumerate(held):
        mine = joined({name: everything[name] for name in own})
        assert torch.equal(space.restrict(g, vector), mine)
        both = torch.stack([vector, -vector])
        assert torch.equal(space.restrict(g, both), torch.stack([mine, -mine]))
        expected = {n: x if n in own else 0 * x for n, x in everything.items()}
        assert torch.equal(space.extend(g, mine), joined(expected))
        again = space.extend(g, torch.stack([mine, 2 * mine]))
        assert torch.equal(again[1], 2 * joined(expected))
        for name in SHAPES:
            place = space.local(g, name)
            assert (place is None) == (name not in own)
            if place is not None:
                assert torch.equal(mine[place], everything[name].reshape(-1))


@given(groups())
def test_sections_are_the_whole_and_have_the_same_holders_throughout(held):
    space = SharedLayout(held)
    start = 0
    for section in space.sections:
        assert section.place.start == start
        start = section.place.stop
    assert start == space.size
    for name, place in space.places.items():
        holders = tuple(g for g, own in enumerate(held) if name in own)
        assert space.holders(name) == holders
        for section in space.sections:
            inside = max(place.start, section.place.start) < min(
                place.stop, section.place.stop
            )
            assert not inside or section.groups == holders
    neighbours = zip(space.sections, space.sections[1:], strict=False)
    assert all(a.groups != b.groups for a, b in neighbours)


def test_one_group_is_the_whole_and_nothing_is_copied():
    space = SharedLayout([SHAPES])
    vector = torch.arange(float(space.size))
    assert space.restrict(0, vector) is space.extend(0, vector) is vector
    assert len(space.sections) == 1
