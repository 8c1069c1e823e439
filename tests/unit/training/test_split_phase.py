"""Phases of a search for a split against whole runs and plain means."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.preemption import PreemptionGuard
from fedapm_mpi.training.split_phase import read_values, train_phase
from tests.support.data.recorded import BALANCED, go
from tests.support.processes.cli_runs import experiment

HEAD, BIASES, NOTHING = ["head.*"], ["*bias*"], []
STOP = PreemptionGuard()


def opened(data, personal, **changes):
    values = {"dtype": "float64", "rounds": 3, "split": {"personal": personal}}
    config = validate(experiment(data, **values | changes), "test")
    return open_context(config, Serial())


@pytest.mark.parametrize("changes", [{}, {"algorithm": BALANCED}], ids=str)
def test_a_phase_is_a_run_without_files(toy, tmp_path, changes):
    context = opened(toy["odd"], HEAD, **changes)
    trained = train_phase(context, None, STOP)
    run = go(tmp_path / "run", toy["odd"], rounds=3, **changes)
    server = load_file(run / "final" / "server.safetensors")
    assert torch.equal(context.payload.shared(trained.message), server["rows"][0])
    clients = {}
    for path in (run / "final").glob("clients-*.safetensors"):
        clients |= load_file(path)
    for client, state in context.table.materialized().items():
        assert torch.equal(state["personal"], clients[f"{client}/personal"])


def named(context, client):
    group, state = context.groups.of(client), context.table.peek(client)
    return {
        block: dict(
            zip(
                sizes := group.model.sizes(block),
                torch.split(state[block], list(sizes.values())),
                strict=True,
            )
        )
        for block in ("shared", "personal")
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [(NOTHING, BIASES), (BIASES, HEAD), (HEAD, NOTHING), (BIASES, BIASES)],
    ids=str,
)
def test_a_phase_starts_where_the_one_before_ended(toy, before, after, monkeypatch):
    """With no participant, the first round leaves everything as it starts."""
    data = toy["odd"]
    first = opened(data, before)
    ended = train_phase(first, None, STOP)
    values = read_values(first, ended.message)
    config = dataclasses.replace(first.config, rounds=1)
    split = dataclasses.replace(config.split, personal=after)
    second = open_context(dataclasses.replace(config, split=split), Serial())
    monkeypatch.setattr(
        type(second.federation), "participants", lambda self, t: torch.zeros(0).numpy()
        .astype("int64"),
    )  # fmt: skip
    message = train_phase(second, values, STOP).message
    u = second.groups.space.named(second.payload.shared(message))
    u_before = first.groups.space.named(first.payload.shared(ended.message))
    own = [named(first, client)["personal"] for client in range(8)]
    trained = [i for i in range(8) if first.federation.manifest.counts["train"][i]]
    for name, value in u.items():
        expected = u_before.get(name)
        if expected is None:
            mean = torch.stack([own[i][name] for i in trained]).mean(0)
            expected = mean.view(value.shape)
        assert torch.allclose(value, expected, rtol=1e-12, atol=1e-15), name
    for client in range(8):
        now = named(second, client)
        for name, value in now["personal"].items():
            start = own[client][name] if name in own[client] else u_before[name]
            assert torch.equal(value, start.flatten()), name
        for name, value in now["shared"].items():
            assert torch.equal(value, u[name].flatten()), name
        assert not second.table.peek(client)["dual"].any()


def test_a_phase_that_is_asked_to_stop_says_so(toy):
    trained = train_phase(opened(toy["features"], HEAD), None, PreemptionGuard(1))
    assert trained.stopped


@pytest.mark.parametrize("kind", ["local", "mean"])
def test_buffers_go_on_as_well(toy, monkeypatch, kind):
    """Each client's own, or the server's mean, with the counters."""
    from tests.support import PLUGINS

    monkeypatch.syspath_prepend(PLUGINS)
    same = {"model": "user_parts:batch_norm", "buffers": kind}
    first = opened(toy["features"], ["3.*"], **same)
    ended = train_phase(first, None, STOP)
    values = read_values(first, ended.message)
    second = opened(toy["features"], ["*bias*"], **same)
    seen = {}

    def look(context, t, message, timer):
        seen["sent"] = context.payload.buffers(message).clone()
        seen["clients"] = [dict(context.table.peek(i)) for i in range(8)]
        raise Looked

    class Looked(Exception):
        pass

    monkeypatch.setattr("fedapm_mpi.training.loop.train_locally", look)
    with pytest.raises(Looked):
        train_phase(second, values, STOP)
    assert torch.equal(seen["sent"], first.payload.buffers(ended.message))
    for client, state in enumerate(seen["clients"]):
        before = first.table.peek(client)
        assert torch.equal(state["buffers"], before["buffers"])
        assert torch.equal(state["counters"], before["counters"])
        assert before["counters"].any() or client not in first.table.materialized()
