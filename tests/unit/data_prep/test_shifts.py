"""Shifts change samples by who holds them, and nothing else."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_prep.pipeline import plan
from data_prep.shifts import Clients, shifts
from fedapm_mpi.analysis.client_model import load_client_model
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.cli import prepare as prepare_command
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.reader import ShardReader
from fedapm_mpi.data.table import Table, column, iter_blocks
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.runner import train
from tests.support.preparation import command, everyone, prepare
from tests.support.processes.cli_runs import small_har

M, EACH, CLASSES = 6, 400, 4
N = M * EACH


def made():
    """A table of three inputs, its samples assigned to clients in turn."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 9, N)
    ragged = np.where(np.arange(8)[:, None] < lengths[:, None, None], 1.0, 0.0)
    columns = [
        column("wave", np.zeros((N, 3), np.float32)),
        column("image", np.full((N, 2, 2), 100, np.uint8), scale=0.01, shift=-1.0),
        column("steps", ragged.astype(np.float32), lengths=lengths),
        column("number", np.arange(N, dtype=np.float32)),
    ]
    names = [f"class {c}" for c in range(CLASSES)]
    return Table("made", columns, rng.integers(0, CLASSES, N), names)


def held(seed=0):
    owner = np.arange(N) % M
    return Clients(M, owner, np.arange(N) // M % 4 != 0, seed)


def shift(name, clients=None, **options):
    return shifts.get(name)(made(), clients or held(), **options)


def values(table, name):
    c = next(c for c in table.columns if c.spec.name == name)
    return np.concatenate(list(iter_blocks(c, np.arange(N))))


def test_every_shift_is_tested():
    assert shifts.names() == [
        "concept",
        "missing",
        "noise",
        "quality",
        "standardise",
        "vertical",
    ]


@pytest.mark.parametrize("name", ["concept", "noise", "quality"])
def test_same_seed_same_samples(name):
    one, two, other = (shift(name, held(seed)) for seed in (3, 3, 4))
    assert one.notes == two.notes != other.notes
    np.testing.assert_array_equal(one.table.labels, two.table.labels)
    np.testing.assert_array_equal(values(one.table, "wave"), values(two.table, "wave"))
    same_labels = (one.table.labels == other.table.labels).all()
    same_inputs = (values(one.table, "wave") == values(other.table, "wave")).all()
    assert same_labels == (name == "noise")
    assert same_inputs == (name != "noise")


# Concept -----------------------------------------------------------------------------


def test_each_group_has_a_permutation_of_its_own():
    before, clients = made().labels, held()
    after = shift("concept", groups=3)
    found = {}
    for client in range(M):
        own = clients.owner == client
        pairs = set(
            zip(before[own].tolist(), after.table.labels[own].tolist(), strict=True)
        )
        assert len(pairs) == CLASSES
        to = tuple(b for _, b in sorted(pairs))
        assert sorted(to) == list(range(CLASSES))
        found.setdefault(to, []).append(after.notes[client])
    identity = found.pop((0, 1, 2, 3))
    assert identity == ["", ""]
    assert sorted(found.values()) == [["concept 1"] * 2, ["concept 2"] * 2]


@pytest.mark.parametrize(("groups", "message"), [(1, "from 2 to"), (7, "from 2 to")])
def test_groups_that_can_not_be(groups, message):
    with pytest.raises(ConfigError, match=message):
        shift("concept", groups=groups)


def test_more_groups_than_orders():
    table = made()
    two = Table("two", table.columns, table.labels % 2, ["a", "b"])
    assert len(set(shifts.get("concept")(two, held(), groups=2).notes)) == 2
    with pytest.raises(ConfigError, match="2 labels have fewer permutations"):
        shifts.get("concept")(two, held(), groups=3)


# Noise -------------------------------------------------------------------------------


def test_noise_rises_in_equal_steps_over_clients():
    after, clients = shift("noise", level=0.5), held()
    wave = values(after.table, "wave")
    found = np.array([wave[clients.owner == i].std() for i in range(M)])
    said = np.array([float(note[6:] or 0) for note in after.notes])
    np.testing.assert_allclose(np.sort(said), np.linspace(0, 0.5, M), atol=1e-3)
    np.testing.assert_allclose(found, said, rtol=0.1)
    assert said.tolist() != sorted(said.tolist())
    assert found[said == 0] == 0


def test_noise_is_in_the_units_that_a_model_sees_and_images_stay_images():
    after, clients = shift("noise", level=0.2), held()
    image = values(after.table, "image")
    assert image.dtype == np.uint8
    noisiest = clients.owner == int(np.argmax([float(n[6:] or 0) for n in after.notes]))
    seen = image[noisiest] * 0.01 - 1.0
    assert seen.std() == pytest.approx(0.2, rel=0.1)
    assert seen.mean() == pytest.approx(0.0, abs=0.02)


def test_noise_is_rounded_to_the_nearest_that_can_be_stored():
    image = values(shift("noise", level=0.002).table, "image")
    assert (image == 100).mean() > 0.98


def test_noise_beyond_what_is_stored_is_clipped():
    image = values(shift("noise", level=50.0).table, "image")
    assert {0, 255} <= set(image.ravel().tolist())
    assert (np.bincount(image.ravel())[[0, 255]] > N / 4).all()


def test_noise_leaves_padding_and_other_inputs_alone():
    before = made()
    after = shift("noise", inputs=["steps"]).table
    lengths = before.columns[2].lengths
    steps = values(after, "steps")
    inside = np.arange(8)[None, :] < lengths[:, None]
    assert (steps[~inside] == 0).all()
    assert (steps[inside] != 1).mean() > 0.8
    for name in ("wave", "image", "number"):
        np.testing.assert_array_equal(values(after, name), values(before, name))
    np.testing.assert_array_equal(after.labels, before.labels)


def test_noise_does_not_depend_on_the_order_of_reading():
    """A sample's noise is its own; no two samples or inputs have the same."""
    c = shift("noise").table.columns[0]
    rows = np.arange(N)
    whole = c.fetch(rows)
    for some in (rows[::-1], rows[100:101], rows[::7]):
        np.testing.assert_array_equal(c.fetch(some), whole[some])
    noisy = whole[(whole != 0).all(axis=1)]
    assert len(np.unique(noisy, axis=0)) == len(noisy)
    table = shift("noise").table
    a, b = values(table, "wave")[:, 0], values(table, "number") - np.arange(N)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0.0}, "level must be positive and finite"),
        ({"level": float("inf")}, "level must be positive and finite"),
        ({"inputs": ["wav"]}, "no input 'wav'; did you mean 'wave'"),
    ],
)
def test_noise_that_can_not_be(options, message):
    with pytest.raises(ConfigError, match=message):
        shift("noise", **options)


# Quality -----------------------------------------------------------------------------


def test_labels_are_wrong_in_equal_steps_in_training_only():
    before, clients = made().labels, held()
    after = shift("quality", level=0.5)
    labels = after.table.labels
    wrong = labels != before
    assert not wrong[~clients.training].any()
    assert ((labels >= 0) & (labels < CLASSES)).all()
    shares = []
    for client in range(M):
        own = (clients.owner == client) & clients.training
        shares.append(wrong[own].mean())
        first = wrong[own][: own.sum() // 4]
        assert first.mean() == pytest.approx(shares[-1], abs=0.2)
        said = after.notes[client].removesuffix(" wrong") or "0%"
        assert float(said[:-1]) / 100 == pytest.approx(shares[-1], abs=0.003)
    np.testing.assert_allclose(np.sort(shares), np.linspace(0, 0.5, M), atol=0.003)
    # Every other label alike.
    away = (labels - before)[wrong] % CLASSES
    np.testing.assert_allclose(np.bincount(away)[1:] / wrong.sum(), 1 / 3, atol=0.06)


@pytest.mark.parametrize("level", [0.0, -0.1, 1.1])
def test_a_level_that_is_no_share(level):
    with pytest.raises(ConfigError, match="level must be above 0 and at most 1"):
        shift("quality", level=level)


def test_one_class_can_not_be_mistaken():
    table = made()
    one = Table("one", table.columns, table.labels * 0, ["a"])
    with pytest.raises(ConfigError, match="two classes"):
        shifts.get("quality")(one, held())


# Missing inputs ----------------------------------------------------------------------


def with_two():
    """The same with two inputs only, one of them ragged, and no zero in them."""
    table = made()
    lengths = table.columns[2].lengths
    wave = column("wave", np.full((N, 3), 7, np.float32))
    return Table("made", [wave, table.columns[2]], table.labels, table.classes), lengths


def lacking(table):
    return np.stack([c.lengths == 0 for c in table.columns], axis=1)


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.8])
def test_samples_lack_inputs_at_the_rate_given_that_one_remains(rate):
    before, lengths = with_two()
    after = shifts.get("missing")(before, held(), rate=rate, by="sample").table
    lacks = lacking(after)
    assert not lacks.all(axis=1).any()
    expected = rate * (1 - rate) / (1 - rate**2)
    np.testing.assert_allclose(lacks.mean(axis=0), expected, atol=0.03)
    np.testing.assert_array_equal(after.labels, before.labels)
    for c, old, lack in zip(after.columns, before.columns, lacks.T, strict=True):
        assert c.spec.ragged
        x, known = c.fetch(np.arange(N)), old.fetch(np.arange(N))
        assert (x[lack] == 0).all()
        np.testing.assert_array_equal(x[~lack], known[~lack])
    np.testing.assert_array_equal(after.columns[0].lengths, 3 * ~lacks[:, 0])
    np.testing.assert_array_equal(after.columns[1].lengths, lengths * ~lacks[:, 1])


def test_clients_lack_inputs_altogether_and_their_names_say_so():
    before, _ = with_two()
    clients = Clients(100, np.arange(N) % 100, np.ones(N, bool), 1)
    after = shifts.get("missing")(before, clients, rate=0.5)
    lacks = lacking(after.table)
    for client, note in enumerate(after.notes):
        own = lacks[clients.owner == client]
        assert (own == own[0]).all()
        assert note == ("no wave" if own[0, 0] else "no steps" if own[0, 1] else "")
    for note in ("no wave", "no steps", ""):
        assert after.notes.count(note) == pytest.approx(33, abs=15)


@pytest.mark.parametrize("parts", ["train", "test"])
def test_only_one_part_may_lack_inputs(parts):
    clients = held()
    after = shifts.get("missing")(with_two()[0], clients, by="sample", parts=parts)
    lacks = lacking(after.table).any(axis=1)
    assert not lacks[clients.training != (parts == "train")].any()
    assert lacks[clients.training == (parts == "train")].mean() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate must be above 0 and below 1"),
        ({"rate": 1.0}, "rate must be above 0 and below 1"),
        ({"inputs": ["wave"]}, "needs two inputs to choose from"),
        ({"inputs": ["wave", "numbr"]}, "no input 'numbr'; did you mean 'number'"),
        ({}, "input 'number' is a number and can't be empty"),
    ],
)
def test_inputs_that_can_not_be_missing(options, message):
    with pytest.raises(ConfigError, match=message):
        shift("missing", **options)


def test_a_run_with_missing_inputs(tmp_path):
    """A client that lacks an input never changes the encoder of it; the rest trains."""
    rng = np.random.default_rng(1)
    path = tmp_path / "two.npz"
    acc, gyro = rng.normal(size=(2, 96, 16, 3))
    np.savez(path, x_acc=acc, x_gyro=gyro, y=np.arange(96) % 2,
             client=np.arange(96) // 12)  # fmt: skip
    manifest = prepare("arrays", path, tmp_path / "to", "shift=missing", "seed=4")
    assert all(spec.ragged for spec in manifest.inputs)
    lacks = ["no gyro" in name for name in manifest.client_names]
    assert any(lacks)
    for name in ("acc", "gyro"):
        named = [i for i, n in enumerate(manifest.client_names) if f"no {name}" in n]
        assert manifest.lacking.get(name, ()) == tuple(named)
    run = tmp_path / "run"
    train(
        Serial(),
        validate(small_har(tmp_path / "to"), "test"),
        directory=run,
        progress="none",
    )
    models = [dict(load_client_model(run, i).named_parameters()) for i in range(8)]
    untouched = models[lacks.index(True)]
    for model, lack in zip(models, lacks, strict=True):
        encoder = [name for name in model if name.startswith("gyro_conv.")]
        assert all(torch.equal(model[n], untouched[n]) for n in encoder) == lack
        name = "acc_conv.conv1.weight"
        assert torch.equal(model[name], untouched[name]) == (model is untouched)


# Standardise -------------------------------------------------------------------------


@pytest.mark.parametrize("over", ["train", "all"])
@pytest.mark.parametrize("name", ["wave", "drift", "steps", "number"])
def test_each_client_has_its_own_mean_and_spread(over, name):
    """Of what a model sees: 'drift' is stored as integers, in other units."""
    rng = np.random.default_rng(6)
    before, clients = made(), held()
    drift = rng.integers(0, 99, (N, 8, 2)).astype(np.int16)
    lengths = rng.integers(0, 9, N)
    lengths[clients.owner == 3] = 0  # a client without any
    optional = replace(
        column("drift", drift, lengths=lengths, scale=0.5, shift=7.0), optional=True
    )
    own = clients.owner[:, None]
    noise = column("wave", rng.normal(own, 1 + own, (N, 3)).astype(np.float32))
    table = replace(before, columns=[noise, optional, *before.columns[2:]])
    after = shifts.get("standardise")(table, clients, over=over, inputs=[name]).table
    (was,) = [c for c in table.columns if c.spec.name == name]
    (now,) = [c for c in after.columns if c.spec.name == name]
    assert (now.spec.dtype, now.spec.scale, now.spec.shift) == ("float32", 1.0, 0.0)
    seen = values(table, name) * was.spec.scale + was.spec.shift
    found = values(after, name)
    known = clients.training | (over == "all")
    for client in range(M):
        own = clients.owner == client
        steps = [inside(seen, was, row) for row in np.flatnonzero(own & known)]
        joined = np.concatenate(steps).astype(np.float64)
        mean, spread = (joined.mean(0), joined.std(0) + 1e-5) if len(joined) else (0, 1)
        for row in np.flatnonzero(own):
            expected = (inside(seen, was, row) - mean) / spread
            np.testing.assert_allclose(
                inside(found, was, row), expected, rtol=1e-5, atol=1e-5
            )
    if was.lengths is not None:
        beyond = np.arange(8) >= np.asarray(was.lengths)[:, None]
        assert not found[beyond].any()
    for other in table.columns:
        if other.spec.name != name:
            same = next(c for c in after.columns if c.spec.name == other.spec.name)
            assert same is other


def inside(values, column, row):
    """Return the steps of a sample, (n, C); a vector is one step."""
    x = np.atleast_1d(values[row])
    if column.lengths is None:
        return x[None]
    return x[: column.lengths[row]]


def test_images_are_not_standardised():
    cube = column("cube", np.zeros((N, 2, 2, 2), np.float32))
    table = replace(made(), columns=[cube])
    with pytest.raises(ConfigError, match="input 'cube' has the shape"):
        shifts.get("standardise")(table, held())


# From the command line ---------------------------------------------------------------


@pytest.fixture
def origin(tmp_path):
    path = tmp_path / "made.npz"
    np.savez(path, x_number=np.arange(120.0)[:, None], y=np.arange(120) % 3,
             client=np.arange(120) // 20)  # fmt: skip
    return path


def test_two_shifts_of_a_data_set(origin, tmp_path, capsys):
    both = "shift=[{name: noise, level: 0.01}, concept]"
    plain = prepare("arrays", origin, tmp_path / "plain")
    manifest = prepare("arrays", origin, tmp_path / "to", both)
    assert manifest.preparation["shift"] == [
        {"name": "noise", "level": 0.01, "inputs": None},
        {"name": "concept", "groups": 2},
    ]
    assert "shift" not in plain.preparation
    names = manifest.client_names
    assert sum("concept 1" in name for name in names) == 3
    assert sum("(noise 0.0" in name for name in names) == 5
    for client, arrays in enumerate(everyone(manifest)["test"]):
        numbers = np.rint(arrays.inputs["number"][:, 0])
        assert (numbers // 20 == client).all()
        same = (arrays.labels == numbers % 3).all()
        assert same == ("concept 1" not in names[client])
        exact = (arrays.inputs["number"][:, 0] == numbers).all()
        assert exact == ("noise" not in names[client])
    capsys.readouterr()
    command(inspect_command, tmp_path / "to")
    out = capsys.readouterr().out
    assert "shift          noise (level=0.01, inputs=None)" in out
    assert "shift          concept (groups=2)" in out


def test_the_same_shift_again_is_nothing_to_do(origin, tmp_path, capsys):
    words = ("shift=quality", "shift.level=0.3")
    first = prepare("arrays", origin, tmp_path / "to", *words)
    capsys.readouterr()
    assert prepare("arrays", origin, tmp_path / "to", *words).sha256 == first.sha256
    assert "nothing to do" in capsys.readouterr().out
    wrong = {
        split: [(a.labels != a.inputs["number"][:, 0] % 3).sum() for a in clients]
        for split, clients in everyone(first).items()
    }
    assert sorted(wrong["train"]) == [0, 1, 2, 3, 4, 5]  # of 16 samples each
    assert not any(wrong["test"])
    with pytest.raises(Exception, match="differ in: shift"):
        prepare("arrays", origin, tmp_path / "to", "shift=quality")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("concpt", "shift: unknown shift 'concpt'; did you mean 'concept'"),
        ({"name": "noise", "levels": 1}, "levels: unknown key; did you mean 'level'"),
        (["concept", {"level": 1}], "shift: needs a name"),
        (3, "shift: needs a name"),
    ],
)
def test_shifts_are_checked_before_anything_is_read(value, message):
    with pytest.raises(ConfigError, match=message):
        plan("arrays", {"shift": value})


def test_a_sample_of_several_clients_is_shifted_for_each(origin, tmp_path):
    words = ("partitioner=official-dirichlet", "clients=2", "partitioner.beta=50")
    plain = prepare("arrays", origin, tmp_path / "a", *words)
    shifted = prepare("arrays", origin, tmp_path / "b", *words, "shift=concept")
    assert shifted.client_names == ("client 0", "client 1 (concept 1)")
    to = {}
    for split, before in everyone(plain).items():
        after = everyone(shifted)[split]
        for client in range(2):
            for key, values in before[client].inputs.items():
                assert (after[client].inputs[key] == values).all()
            labels = before[client].labels, after[client].labels
            for pair in zip(*(some.tolist() for some in labels), strict=True):
                to.setdefault(client, set()).add(pair)
    assert all(a == b for a, b in to[0])
    assert not all(a == b for a, b in to[1])
    reader = ShardReader(shifted)
    twice = np.intersect1d(*(reader.rows(client, "train") for client in range(2)))
    assert len(twice)
    assert max(reader.rows(0, "train")) < len(twice) * 40
    reader.close()


def test_lists_its_shifts(capsys):
    assert command(prepare_command, "--list") == 0
    assert re.search(r"  concept +Permute the labels", capsys.readouterr().out)
