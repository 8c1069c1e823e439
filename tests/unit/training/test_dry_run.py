"""What ``--dry-run`` says of memory, counted by hand."""

import numpy as np
import pytest

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.stacked_model import StackedModel
from fedapm_mpi.storage.shared_memory import required_bytes
from fedapm_mpi.training.context import _capacity, open_context
from fedapm_mpi.training.dry_run import (
    TRIAL_STEPS,
    Memory,
    _parts,
    evaluation_loads,
    measure,
    memory,
    print_plan,
    samples_read,
)
from tests.support.processes.cli_runs import experiment

FEATURES = 6
EACH = FEATURES * 4 + 8
"""Bytes of a sample: its features, and its label."""


def opened(data, **changes):
    return open_context(validate(experiment(data, **changes), "test"), Serial())


@pytest.mark.parametrize("split", ["test", "train"])
def test_memory_by_hand(toy, split):
    session = opened(toy["features"], evaluation={"split": split}, rounds=101)
    counts = session.federation.manifest.counts
    found = memory(session)
    looked_at = {"train", split}
    samples = sum(int(counts[s].sum()) for s in looked_at)
    assert found.data == samples * EACH
    largest = max(int(counts[s].max()) for s in looked_at)
    assert found.reading == largest * EACH
    # A body of 8, a head of 3 classes; u, v and the dual of u, for 8 clients.
    shared, personal = (FEATURES + 1) * 8, (8 + 1) * 3
    assert found.states == 8 * 4 * (2 * shared + personal)
    assert found.updates == 4 * 8 * shared  # half of the clients, in doubles
    assert found.total == sum(found)
    assert found.base > 10e6


def test_memory_counts_what_is_there_already_once(toy):
    session = opened(toy["features"])
    before = samples_read(session)
    kept = session.samples(0, "train")
    labels = kept.targets.numel() * kept.targets.element_size()
    assert before == 0
    assert samples_read(session) == kept.targets.numel() * FEATURES * 4 + labels


def test_doubles_and_bytes(toy, tmp_path):
    """A model sees other numbers than are stored; reading takes the larger."""
    from fedapm_mpi.data.table import Table, column
    from fedapm_mpi.data.writer import write_dataset

    x = np.zeros((20, 50), np.uint8)
    rows = [np.arange(0, 8), np.arange(8, 16)]
    tests = [np.arange(16, 18), np.arange(18, 20)]
    table = Table("bytes", [column("x", x)], np.arange(20) % 2, ("a", "b"))
    write_dataset(tmp_path / "data", table, {"train": rows, "test": tests})
    full = {"participation": "full"}
    found = memory(opened(tmp_path / "data", dtype="float64", **full))
    assert found.data == 20 * (50 * 8 + 8)
    assert found.reading == 8 * (50 * 8 + 8)


@pytest.mark.parametrize("who", ["all", "participants"])
def test_a_short_run_sees_those_that_it_draws(toy, who):
    session = opened(toy["features"], rounds=2, evaluation={"clients": who})
    counts = session.federation.manifest.counts
    drawn = sorted(
        {*session.federation.participants(0), *session.federation.participants(1)}
    )
    assert len(drawn) < session.federation.num_clients
    tested = drawn if who == "participants" else range(session.federation.num_clients)
    samples = sum(int(counts["train"][i]) for i in drawn)
    samples += sum(int(counts["test"][i]) for i in tested)
    found = memory(session)
    assert found.data == samples * EACH
    shared, personal = (FEATURES + 1) * 8, (8 + 1) * 3
    assert found.states == len(drawn) * 4 * (2 * shared + personal)


def test_a_run_longer_than_is_looked_at_sees_everybody(toy, monkeypatch):
    monkeypatch.setattr("fedapm_mpi.training.dry_run.SAMPLED_ROUNDS", 1)
    session = opened(toy["features"], rounds=2)
    counts = session.federation.manifest.counts
    whole = sum(int(counts[split].sum()) for split in ("train", "test"))
    assert memory(session).data == whole * EACH


def test_tuning_before_an_evaluation_reads_training_samples(toy):
    tuned = {"name": "fedavg-ft", "lr": 0.1, "batch_size": 8, "work": {"epochs": 1}}
    tuned |= {"fine_tune_work": {"epochs": 1}, "lr_fine_tune": 0.1}
    session = opened(toy["features"], rounds=1, algorithm=tuned, split=None)
    counts = session.federation.manifest.counts
    whole = sum(int(counts[split].sum()) for split in ("train", "test"))
    assert memory(session).data == whole * EACH


def test_any_method_may_read_training_samples_to_tune(toy, capsys):
    tuning = {"block": "all", "lr": 0.1, "work": {"epochs": 4}}
    session, plain = (
        opened(toy["features"], rounds=4, evaluation={"every": 3} | evaluation)
        for evaluation in ({"fine_tune": tuning}, {})
    )
    counts = session.federation.manifest.counts
    whole = sum(int(counts[split].sum()) for split in ("train", "test"))
    found = memory(session)
    assert found.data == whole * EACH
    (load,) = evaluation_loads(session)
    assert load == counts["test"].sum() + 3 * 4 * counts["train"].sum()
    for one in (session, plain):
        print_plan(one, 0.5, [found])
    tuned, other = capsys.readouterr().out.split("expected:")[1:]
    # After rounds 0, 3 and 4; a third of 0.5 s for a sample.
    assert f"{load / 6:.2f} s for each of 3 evaluations, with fine-tuning" in tuned
    assert "evaluation" not in other


def test_what_looks_at_all_training_samples_counts_them(toy):
    looking = opened(toy["features"], rounds=1, diagnostics={"lagrangian": True})
    counts = looking.federation.manifest.counts
    whole = sum(int(counts[split].sum()) for split in ("train", "test"))
    assert memory(looking).data == whole * EACH


STEP = 4
"""Bytes of torch.optim's counter."""


@pytest.mark.parametrize(
    ("optimizer", "shared_copies", "personal_copies", "counters"),
    [
        ("sgd", 0, 0, 0),
        ({"name": "sgd", "momentum": 0.9}, 1, 1, 0),
        ("adam", 2, 2, 2),
        ({"name": "adam", "personal": "sgd"}, 2, 0, 1),
        ({"name": "adam", "amsgrad": True}, 3, 3, 2),
    ],
)
@pytest.mark.parametrize("state", ["reset", "keep"])
def test_states_of_optimizers_by_hand(
    toy, optimizer, shared_copies, personal_copies, counters, state
):
    """Kept ones count for each client, and one more in training, like one that is new.

    A kept one has the number of its steps as well, 8 bytes for each block.
    """
    part = {"name": optimizer} if isinstance(optimizer, str) else optimizer
    session = opened(toy["features"], rounds=101, optimizer=part | {"state": state})
    shared, personal = (FEATURES + 1) * 8, (8 + 1) * 3
    one = 4 * (shared_copies * shared + personal_copies * personal) + counters * STEP
    found = memory(session)
    assert found.optimizer == one
    kept = 8 * (one + 2 * 8) if state == "keep" else 0
    assert found.states == 8 * 4 * (2 * shared + personal) + kept


def test_room_for_client_states_includes_kept_optimizers(toy):
    """What nodes reserve for states before the first round."""
    sizes = {
        state: opened(
            toy["features"], rounds=101, optimizer={"name": "adam", "state": state}
        )
        for state in ("reset", "keep")
    }
    reserved = {
        state: [required_bytes(one.new_client(group)) for group in one.groups.members]
        for state, one in sizes.items()
    }
    found = {state: _capacity(one).states.tolist() for state, one in sizes.items()}
    assert found == {state: each * 8 for state, each in reserved.items()}
    longer = 2 * 4 * ((FEATURES + 1) * 8 + (8 + 1) * 3)
    assert found["keep"][0] >= found["reset"][0] + longer


def test_the_plan_shows_an_optimizers_state():
    assert "optimizer" not in _parts(Memory(1, 2, 3, 4, 5))
    shown = _parts(Memory(1, 2, 3, 4, 5, 6))
    assert shown.endswith(", optimizer of clients in training 6 B")


def test_a_stack_has_a_state_for_each_of_its_clients(toy):
    sizes = {}
    for stacked in ("off", 4):
        session = opened(toy["features"], optimizer="adam", stacked=stacked)
        sizes[stacked] = memory(session).optimizer
    assert sizes[4] == 4 * sizes["off"] > 0


def test_a_stack_is_timed_as_it_trains(toy, monkeypatch):
    passes = []
    own = StackedModel.gradients

    def gradients(stack, block, pool, batches, width):
        passes.append((stack.size, len(batches), width))
        return own(stack, block, pool, batches, width)

    session = opened(toy["features"], stacked=4)
    monkeypatch.setattr(StackedModel, "gradients", gradients)
    assert measure(session) > 0
    assert passes == [(4, 4, 8)] * (TRIAL_STEPS + 1)


def test_the_total_is_that_of_all_parts():
    assert Memory(1, 20, 300, 4000, 50000).total == 54321
