"""Where states and samples are kept: on the heap, or in a file in a scratch folder."""

from types import SimpleNamespace

import pytest
import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError, TrainingError, WriteError
from fedapm_mpi.storage.client_states import ClientStateStore
from fedapm_mpi.storage.shared_memory import TensorArena
from fedapm_mpi.storage.tensor_store import LocalStore
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.runner import train
from tests.support.processes.cli_runs import experiment


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


def digest(data, directory, **changes):
    config = validate(experiment(data, **changes), "test")
    assert train(Serial(), config, directory=directory, progress="none") == 0
    return (directory / "final" / "digest.txt").read_text()


@pytest.mark.parametrize("name", ["features", "ragged", "odd"])
def test_a_scratch_folder_changes_no_bit(toy, tmp_path, name):
    (tmp_path / "scratch").mkdir()
    model = {"name": "mlp", "hidden": [8]}
    split = {"personal": ["head.*"]}
    common = {"model": model, "split": split}
    here = digest(toy[name], tmp_path / "a", **common)
    there = digest(
        toy[name], tmp_path / "b", **common, scratch=str(tmp_path / "scratch")
    )
    assert here == there
    assert not list((tmp_path / "scratch").iterdir())


def test_states_and_samples_lie_in_the_scratch_folder(toy, tmp_path):
    session = opened(toy["features"], scratch=str(tmp_path))
    assert isinstance(session.storage.states, TensorArena)
    first = session.samples(2, "train")
    again = session.samples(2, "train")
    assert first.inputs[0].data_ptr() == again.inputs[0].data_ptr()
    own = opened(toy["features"]).samples(2, "train")
    assert torch.equal(first.inputs[0], own.inputs[0])
    assert torch.equal(first.targets, own.targets)
    assert not session.table.is_materialized(3)
    state = session.table.checkout(3)
    state["dual"].fill_(2.0)
    session.table.commit(3, state)
    assert session.table.is_materialized(3)
    assert (session.table.peek(3)["dual"] == 2).all()
    assert list(session.table.materialized()) == [3]
    assert not list(tmp_path.iterdir()), "the file has no name by now"


def test_without_need_nothing_is_mapped(toy):
    session = opened(toy["features"])
    assert isinstance(session.storage.states, LocalStore)
    assert session.storage.nodes is None
    assert not session.storage.note


def test_a_scratch_folder_that_is_not_there_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"scratch: no file can be mapped in .*gone"):
        opened(toy["features"], scratch=str(tmp_path / "gone"))


def test_a_scratch_folder_without_room_is_refused(toy, tmp_path, monkeypatch):
    left = SimpleNamespace(free=1000)
    monkeypatch.setattr(
        "fedapm_mpi.storage.tensor_store.disk_usage", lambda folder: left
    )
    with pytest.raises(ConfigError, match=r"scratch: .* has 1e-06 GB left.*8 clients"):
        opened(toy["features"], scratch=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_samples_that_do_not_fit_are_read_again(toy, tmp_path, monkeypatch):
    session = opened(toy["features"], scratch=str(tmp_path))

    def full(key, tensors):
        msg = "full"
        raise WriteError(msg)

    monkeypatch.setattr(session.storage.samples, "put", full)
    first, again = (session.samples(0, "train") for _ in range(2))
    assert first.inputs[0].data_ptr() != again.inputs[0].data_ptr()
    assert torch.equal(first.inputs[0], again.inputs[0])


@pytest.mark.parametrize("name", ["features", "ragged", "odd", "motion"])
def test_cells_have_room_for_every_client(toy, tmp_path, name):
    model = {"name": "mlp", "hidden": [8]}
    session = opened(toy[name], scratch=str(tmp_path), model=model)
    for client in range(session.federation.num_clients):
        session.table.checkout(client)
        for split in ("train", "test"):
            session.samples(client, split)
            assert (client, split) in session.storage.samples
    assert len(session.table.materialized()) == session.federation.num_clients


def table(kept=None):
    new = lambda: {"shared": torch.zeros(3), "personal": torch.zeros(2)}  # noqa: E731
    return ClientStateStore([0, 1], [new], [0, 0], kept or LocalStore())


def test_a_tensor_that_was_replaced_is_kept():
    states = table()
    state = states.checkout(1)
    state["shared"] = torch.ones(3)
    states.commit(1, state)
    assert (states.peek(1)["shared"] == 1).all()
    assert (states.peek(0)["shared"] == 0).all()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda s: s.update(momentum=torch.zeros(3)), "momentum"),
        (lambda s: s.pop("personal"), "personal"),
        (lambda s: s.update(shared=torch.zeros(4)), "shared"),
        (lambda s: s.update(shared=torch.zeros(3).double()), "shared"),
    ],
)
def test_a_state_of_another_layout_is_refused(change, name):
    states = table()
    state = states.checkout(0)
    change(state)
    with pytest.raises(TrainingError, match=f"client 0 left '{name}'.*new_client"):
        states.commit(0, state)


def test_samples_that_grow_when_loaded_are_read_again(toy, tmp_path, monkeypatch):
    session = opened(toy["features"], scratch=str(tmp_path))
    grown = session.samples(1, "train").inputs[0].double().repeat(1, 9)

    def grow(ahead, samples):
        return samples._replace(inputs=(grown,))

    monkeypatch.setattr("fedapm_mpi.training.context.apply_constant_stages", grow)
    assert session.samples(0, "train").inputs[0].shape == grown.shape
    assert (0, "train") not in session.storage.samples
