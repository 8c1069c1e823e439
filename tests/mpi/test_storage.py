"""What the ranks of a node share, seen from each of them."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fedapm_mpi.data.samples import Samples
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.storage.shared_memory import TensorArena, required_bytes
from fedapm_mpi.storage.tensor_store import MEMORY, Capacity, LocalStore, open_storage

pytestmark = pytest.mark.mpi

CLIENTS = 6


def placed(world):
    """Return a home for each client; the server has none if it is not alone."""
    first = min(1, world.size - 1)
    return np.arange(CLIENTS) % (world.size - first) + first


def tensors(client):
    return {"shared": torch.full((5,), float(client)), "n": torch.tensor(client)}


def samples(client):
    return Samples((torch.full((2, 3), float(client)),), {}, torch.zeros(2).long())


def nodes(world):
    """Return the node of each rank, -1 for a server that is not alone."""
    first = min(1, world.size - 1)
    return [-1] * first + world.nodes()[first:]


EACH = max(required_bytes(tensors(0)), required_bytes(samples(0).tensors()))


def needs(size=EACH, touched=1.0):
    each = np.full(CLIENTS, size)
    return Capacity(each, {"train": each.copy()}, touched)


def open_files():
    return {p.name for p in MEMORY.iterdir() if p.name.startswith("fedapm-")}


@pytest.mark.parametrize("in_folder", [False, True])
def test_each_rank_sees_what_others_put(world, in_folder, folder):
    scratch = str(folder) if in_folder else None
    found = open_storage(world, nodes(world), placed(world), needs(), scratch=scratch)
    several = world.size > 2
    if not in_folder and not several:
        assert isinstance(found.states, LocalStore)
        assert found.nodes is None
        return
    assert found.note is None
    assert list(found.nodes) == [*[-1] * (world.size > 1), *world.nodes()][: world.size]
    if found.nodes[world.rank] < 0:
        assert isinstance(found.states, LocalStore)
    for turn in range(world.size):
        world.barrier()
        if world.rank == turn:
            for client in np.flatnonzero(placed(world) == turn).tolist():
                found.states.put(client, tensors(client))
                found.samples.put((client, "train"), samples(-client))
        world.barrier()
        if found.nodes[world.rank] < 0:
            continue
        assert isinstance(found.states, TensorArena)
        for client, home in enumerate(placed(world).tolist()):
            assert (client in found.states) == (home <= turn)
            if home <= turn:
                assert (found.states.get(client)["shared"] == client).all()
                own = found.samples.get((client, "train"))
                assert (own.inputs[0] == -client).all()
    world.barrier()
    assert not list(folder.iterdir()), "no file has a name"


def test_in_turns_ranks_change_the_same_state(world, folder):
    found = open_storage(
        world, nodes(world), placed(world), needs(), scratch=str(folder)
    )
    if world.rank == placed(world)[0]:
        found.states.put(0, tensors(0))
    world.barrier()
    working = range(min(1, world.size - 1), world.size)
    for turn in working:
        world.barrier()
        if world.rank == turn:
            found.states.get(0)["shared"].add_(1)
        world.barrier()
    if world.rank in working:
        assert (found.states.get(0)["shared"] == len(working)).all()


def test_those_who_stay_apart_share_nothing(world):
    found = open_storage(world, nodes(world), placed(world), needs(), together=False)
    assert isinstance(found.states, LocalStore)
    assert found.nodes is None
    assert not open_files()


def test_a_folder_that_is_not_there_is_an_error_on_every_rank(world, folder):
    with pytest.raises(ConfigError, match=r"scratch: no file can be mapped in .*none"):
        open_storage(
            world, nodes(world), placed(world), needs(), scratch=str(folder / "none")
        )


def test_too_little_memory_is_reported_and_each_keeps_its_own(world):
    found = open_storage(world, nodes(world), placed(world), needs(size=2**50))
    assert isinstance(found.states, LocalStore)
    assert found.nodes is None
    if world.size > 2:
        assert "/dev/shm has" in found.note
        assert "scratch" in found.note
    world.barrier()
    assert not open_files()


def test_room_for_states_that_are_never_touched_is_not_asked_for(world):
    few = needs(size=2**40, touched=2.0**-30)
    few.samples["train"][:] = 64
    found = open_storage(world, nodes(world), placed(world), few)
    assert found.note is None


def test_a_rank_that_cannot_open_the_file_makes_all_stay_apart(world, monkeypatch):
    """As where the ranks of a node run in containers without a common folder."""

    def cannot(path: Path):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("fedapm_mpi.storage.shared_memory.MappedFile.open", cannot)
    found = open_storage(world, nodes(world), placed(world), needs())
    assert found.nodes is None
    if world.size > 2:
        assert "cannot be mapped by another rank (No such file" in found.note
    world.barrier()
    assert not open_files()


def test_every_number_is_drawn_once(world):
    found = open_storage(world, nodes(world), placed(world), needs())
    working = range(min(1, world.size - 1), world.size)
    if len(working) == 1:
        assert found.tickets is None
        return
    for count in (0, 1, 7, 500):
        mine = [] if found.tickets is None else list(found.tickets.take(count))
        assert mine == sorted(mine)
        drawn = world.gather_object(mine)
        if drawn is not None:
            assert sorted(k for own in drawn for k in own) == list(range(count))
            assert not drawn[0]
        world.barrier()


def test_a_rank_that_is_busy_draws_less(world):
    found = open_storage(world, nodes(world), placed(world), needs())
    mine = 0
    for _ in () if found.tickets is None else found.tickets.take(40):
        mine += 1
        time.sleep(0.05 if world.rank == 1 else 0.005)
    if world.size < 3:
        return
    busy = world.allreduce_max([mine if world.rank == 1 else 0])[0]
    free = world.allreduce_max([0 if world.rank == 1 else mine])[0]
    assert 0 < busy < free
