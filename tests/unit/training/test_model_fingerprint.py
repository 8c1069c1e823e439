"""Models unlike the usual: taken as they are, or refused by name before training."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fedapm_mpi.analysis.client_model import load_client_model, recompute_digest
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.federation.client_groups import build_groups
from fedapm_mpi.training import model_fingerprint as builtmodel
from fedapm_mpi.training.runner import train
from tests.support.plugins.odd_models import FEATURES, WIDTH
from tests.support.processes.cli_runs import FEDAPM, digest_of, experiment, rounds_of

TURN = [complex(np.cos(angle), np.sin(angle)) for angle in (0.3, 1.2)]
ALL = {"participation": {"name": "full"}, "rounds": 2}


@pytest.fixture
def data(toy):
    return toy["features"]


def config(data, model, **changes):
    name, options = model
    part = {"name": f"odd_models:{name}", **options}
    return validate(experiment(data, model=part, **changes), "test")


def groups(data, name, **options):
    wanted = config(data, (name, options))
    return build_groups(wanted, read_manifest(str(data)), "split")


def run(data, directory, name, changes=None, **options):
    wanted = config(data, (name, options), **ALL | (changes or {}))
    assert train(Serial(), wanted, directory=directory, progress="none") == 0
    return directory


def hashed(found):
    return builtmodel.sha256_of(builtmodel.contents(found))


@pytest.mark.parametrize("draw", ["numpy", "random", "torch"])
def test_what_a_factory_draws_comes_from_the_seed_alone(data, draw):
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    first = groups(data, "masked", draw=draw)
    went_on = np.random.rand(), random.random()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    assert went_on == (np.random.rand(), random.random())  # noqa: NPY002
    again = groups(data, "masked", draw=draw)
    masks = [g.members[0].model.module.mask for g in (first, again)]
    assert torch.equal(*masks)
    assert hashed(first) == hashed(again)
    wanted = config(data, ("masked", {"draw": draw}), seed=2)
    other = build_groups(wanted, read_manifest(str(data)), "split")
    assert not torch.equal(other.members[0].model.module.mask, masks[0])


@pytest.mark.parametrize("keep", ["buffer", "frozen", "array", "number"])
@pytest.mark.parametrize("draw", ["system", "unseeded"])
def test_what_cannot_be_seeded_changes_the_hash(data, draw, keep):
    first, again = (groups(data, "masked", draw=draw, keep=keep) for _ in range(2))
    assert hashed(first) != hashed(again)
    same = (groups(data, "masked", draw="numpy", keep=keep) for _ in range(2))
    assert len({hashed(found) for found in same}) == 1


class Ranks(Serial):
    """Rank 0 of three, whose other ranks hold other contents."""

    size = 3

    def __init__(self, *others):
        self.others = others
        self.own = None

    def allreduce_max(self, values):
        return [value + 1 for value in values]

    def bcast_object(self, item):
        self.own = item
        return item

    def gather_object(self, item):
        rows = [item]
        for found in self.others:
            name, harmless = builtmodel._difference(self.own, found)
            text = None if name is None else found.get(name)
            rows.append((name, text, item[2], harmless))
        return rows


A, B, C = "parameter 'a'", "buffer 'b'", "attribute 'c'"


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (({A: "1", B: "2"}, {A: "1", B: "3"}), f"{B} is 2 on rank 0 and 3 on rank 2;"),
        (
            ({A: "4", B: "3"}, {A: "5", B: "2"}),
            f"{A} is 1 on rank 0 and 4 on rank 1, another on rank 2;",
        ),
        (({A: "4"}, {A: "4", B: "2"}), f"{A} is 1 on rank 0 and 4 on ranks 1-2;"),
        (({A: "1"}, {A: "1", B: "2"}), f"{B} is 2 on rank 0 and absent on rank 1;"),
        (
            ({A: "1", B: "2", C: "3"}, {A: "1", B: "2"}),
            f"{C} is absent on rank 0 and 3 on rank 1;",
        ),
        (
            ({B: "2", A: "1"}, {A: "1", B: "2"}),
            f"{B} is 2 on rank 0 and at another place on rank 1;",
        ),
    ],
)
def test_the_first_difference_is_named_with_its_ranks(others, expected):
    with pytest.raises(ConfigError, match="not the same on all ranks") as caught:
        builtmodel.same_on_all_ranks(Ranks(*others), {A: "1", B: "2"})
    assert expected in str(caught.value)
    assert caught.value.exit_code == 2


SAME = {builtmodel.OUTPUTS: "1.0 -2e3 nan"}


@pytest.mark.parametrize(
    ("attribute", "outputs", "harmless"),
    [
        ("5", SAME, True),
        ("5", {builtmodel.OUTPUTS: "1.01 -2000.1 nan"}, True),  # another processor
        ("5", {builtmodel.OUTPUTS: "1.0 -2030 nan"}, False),
        ("5", {builtmodel.OUTPUTS: "1.0 -2e3 0"}, False),
        ("5", {builtmodel.OUTPUTS: "1.0 -2e3"}, False),
        ("5", {}, False),
        ("float32 (4,) sha256 0", SAME, False),
        ("list (1, array int64 (4,) sha256 0)", SAME, False),
    ],
)
def test_attributes_may_differ_where_scores_do_not(attribute, outputs, harmless):
    ranks = Ranks({A: "1", C: attribute} | outputs, {A: "1", C: "3"} | SAME)
    if harmless:
        reported = builtmodel.same_on_all_ranks(ranks, {A: "1", C: "3"} | SAME)
        assert reported.startswith(
            f"{C} is 3 on rank 0 and 5 on rank 1, but the scores"
        )
    else:
        with pytest.raises(ConfigError, match=f"all ranks: {C} is 3 on rank 0 and "):
            builtmodel.same_on_all_ranks(ranks, {A: "1", C: "3"} | SAME)


def test_a_model_may_know_when_and_where_it_was_built(data, tmp_path, capsys):
    changes = {"checkpoint": {"every": 1}}
    options = {"draw": "system", "keep": "unused"}
    run(data, tmp_path / "run", "masked", changes, **options)
    run(data, tmp_path / "whole", "masked", {"rounds": 3}, **options)
    wanted = config(data, ("masked", options), **ALL | changes | {"rounds": 3})
    assert train(Serial(), wanted, directory=tmp_path / "run", resume=True) == 0
    shown = " ".join("".join(capsys.readouterr()).split())
    assert "attribute 'mask' of the model was" in shown
    assert "the scores of made-up samples are the same" in shown
    assert digest_of(tmp_path / "run") == digest_of(tmp_path / "whole")
    load_client_model(tmp_path / "run", 0)


def test_a_run_does_not_continue_with_another_model(data, tmp_path):
    """A frozen tensor is in no checkpoint, so that another one would go unnoticed."""
    changes = {"checkpoint": {"every": 1}}
    options = {"draw": "system", "keep": "frozen"}
    run(data, tmp_path / "run", "masked", changes, **options)
    wanted = config(data, ("masked", options), **ALL | changes | {"rounds": 3})
    reported = (
        r"cannot continue: the model .* parameter 'mask' was float32 \(4,\) sha256 "
    )
    with pytest.raises(ConfigError, match=reported):
        train(Serial(), wanted, directory=tmp_path / "run", resume=True)
    (tmp_path / "run" / builtmodel.FILE).unlink()  # as of a version without it
    assert train(Serial(), wanted, directory=tmp_path / "run", resume=True) == 0


def test_a_model_built_otherwise_is_not_passed_off_as_the_trained(data, tmp_path):
    options = {"draw": "system", "keep": "array"}
    made = run(data, tmp_path / "run", "masked", **options)
    with pytest.raises(
        DataError, match="not the one that was trained; attribute 'mask'"
    ):
        load_client_model(made, 0)
    held = run(data, tmp_path / "held", "masked", draw="system")
    saved = json.loads((held / builtmodel.FILE).read_text())["contents"]
    load_client_model(held, 0)  # its mask is a buffer, which the client's state holds
    assert saved["buffer 'mask'"].startswith("float32 (4,) sha256 ")


def test_a_run_continues_with_the_same_model(data, tmp_path):
    options = {"draw": "numpy", "keep": "frozen"}
    run(data, tmp_path / "run", "masked", **options)
    run(data, tmp_path / "whole", "masked", {"rounds": 3}, **options)
    wanted = config(data, ("masked", options), **ALL | {"rounds": 3})
    assert train(Serial(), wanted, directory=tmp_path / "run", resume=True) == 0
    assert digest_of(tmp_path / "run") == digest_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("plain", "float32"),
        ("double", "float32"),
        ("offset", "float64"),
        ("conjugate", "float32"),
        ("frozen", "float64"),
    ],
)
def test_complex_tensors_stay_complex(data, tmp_path, kind, dtype):
    made = run(data, tmp_path / "run", "rotary", {"dtype": dtype}, kind=kind)
    module = load_client_model(made, 0)
    fitting = torch.complex64 if dtype == "float32" else torch.complex128
    assert module.turn.dtype == fitting
    expected = torch.tensor(TURN, dtype=fitting)
    if kind == "conjugate":
        expected = expected.conj()
    torch.testing.assert_close(module.turn.detach(), expected, rtol=0, atol=1e-7)
    assert module.even.tolist() == [True, False]
    assert module.body.weight.dtype == getattr(torch, dtype)
    assert recompute_digest(made) == digest_of(made)


def test_a_complex_buffer_that_moves_is_the_clients_own(data, tmp_path):
    """It is multiplied by i in every pass, in two phases of two rounds."""
    made = run(data, tmp_path / "run", "rotary", kind="moving")
    counts = read_manifest(str(data)).counts["train"].tolist()
    for client in (0, 1, 2):
        steps = 2 * 2 * -(-counts[client] // FEDAPM["batch_size"])
        found = load_client_model(made, client).turn
        expected = torch.tensor(TURN) * 1j**steps
        torch.testing.assert_close(found, expected.to(torch.complex64))
    assert recompute_digest(made) == digest_of(made)
    resumed = tmp_path / "resumed"
    once = {"rounds": 1, "checkpoint": {"every": 1}}
    run(data, resumed, "rotary", once, kind="moving")
    wanted = config(data, ("rotary", {"kind": "moving"}), **ALL)
    assert train(Serial(), wanted, directory=resumed, resume=True) == 0
    assert digest_of(resumed) == digest_of(made)


def test_the_mean_of_complex_buffers_is_complex(data, tmp_path):
    made = run(data, tmp_path / "run", "rotary", {"buffers": "mean"}, kind="offset")
    found = load_client_model(made, 0)
    torch.testing.assert_close(found.turn, torch.tensor(TURN).to(torch.complex64))
    assert found.first == 2


def test_a_cache_that_the_forward_registers_is_in_no_state(data, tmp_path):
    made = run(data, tmp_path / "run", "unusual", kind="cache")
    plain = run(data, tmp_path / "plain", "unusual", kind="none")
    assert digest_of(made) == digest_of(plain) == recompute_digest(made)
    assert not hasattr(load_client_model(made, 0), "extra")


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("rotary", "trained", r"the parameter 'turn' is complex.*torch\.complex"),
        ("unusual", "lazy", "the parameter 'extra.weight' has no shape yet"),
        ("unusual", "meta", "the buffer 'extra' has no values"),
        ("unusual", "sparse", r"the buffer 'extra' is sparse \(sparse_coo\)"),
        ("unusual", "quantized", "the buffer 'extra' is quantized"),
        ("unusual", "overlapping", "'body.bias' and 'extra' share memory"),
        ("unusual", "frozen", "no trained parameter .*nothing to train"),
        (
            "unusual",
            "growing",
            r"'extra' changes .*floating \(1,\), after: floating \(\d+,\)",
        ),
        ("unusual", "late", r"'extra' changes .*before: absent"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's, on lazy and quantized tensors
def test_tensors_that_no_state_can_hold_are_refused_by_name(data, name, kind, expected):
    with pytest.raises(ConfigError, match=f"model 'odd_models:{name}': .*{expected}"):
        groups(data, name, kind=kind)


def test_a_model_without_parameters_is_refused(data):
    with pytest.raises(ConfigError, match="has no parameter, so there is nothing"):
        groups(data, "without_parameters")


@pytest.mark.parametrize("kind", ["half", "empty", "tied", "scalars"])
def test_rare_tensors_that_are_taken(data, tmp_path, kind):
    made = run(data, tmp_path / "run", "unusual", kind=kind)
    module = load_client_model(made, 1)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    if kind == "tied":
        assert module.extra.weight is module.body.weight
    if kind == "scalars":
        assert (float(module.scale), module.seen.tolist()) == (0.5, 3)
        assert module.scale.dtype == torch.float32
        assert module.seen.dtype == torch.uint8
        assert module.hidden.tolist() == [True, True]
    assert recompute_digest(made) == digest_of(made)


def test_a_tied_parameter_is_not_missed_under_its_second_name(data):
    with pytest.raises(
        ConfigError, match=r"'extra.weight' is the same .*'body.weight'"
    ):
        run(data, None, "unusual", {"split": {"personal": ["extra.*"]}}, kind="tied")


def test_groups_with_one_module_are_refused(data):
    group = {"clients": [0], "model": {"name": "odd_models:always_one", "other": 1}}
    wanted = config(data, ("always_one", {}), groups=[group])
    with pytest.raises(ConfigError, match=r"of model and groups\[0\] are one object"):
        build_groups(wanted, read_manifest(str(data)), "split")


def test_inputs_take_the_dtype_of_the_run(data, tmp_path):
    """Not that of the first parameter, here a frozen order of features."""
    made = run(data, tmp_path / "run", "ordered")
    module = load_client_model(made, 0)
    assert module.order.tolist() == [5, 4, 3, 2, 1, 0]
    assert module.order.dtype == torch.int64
    x = torch.randn(2, FEATURES)
    hidden = torch.relu(nn.functional.linear(x.flip(1), *module.body.parameters()))
    expected = nn.functional.linear(hidden, *module.head.parameters())
    torch.testing.assert_close(module(x), expected)


def test_noise_by_numpy_does_not_depend_on_what_ran_before(data, tmp_path):
    runs = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        runs.append(run(data, tmp_path / f"{seed}", "noisy"))
    assert digest_of(runs[0]) == digest_of(runs[1])
    assert rounds_of(runs[0]) == rounds_of(runs[1])


def test_a_models_size_counts_both_parts_of_complex_numbers(data):
    rows = {row.name: row for row in groups(data, "rotary").table()}
    assert (rows["turn"].shape, rows["turn"].size) == ((2,), 4)
    assert (rows["turn"].block, rows["even"].block) == ("buffer", "counter")
    assert rows["body.weight"].size == FEATURES * WIDTH


def begin_from(data, tmp_path, tensors, name, **options):
    save_file(tensors, tmp_path / "start.safetensors")
    start = {"initial_model": str(tmp_path / "start.safetensors")}
    wanted = config(data, (name, options), **start)
    found = build_groups(wanted, read_manifest(str(data)), "split")
    return found.members[0].model.module


def test_a_file_of_other_dtypes_is_taken_where_nothing_is_lost(data, tmp_path):
    turn = torch.polar(torch.ones(2), torch.tensor([0.1, 0.2]))
    tensors = {
        "turn": turn,
        "even": torch.tensor([0, 1], dtype=torch.int64),
        "head.bias": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64),
    }
    module = begin_from(data, tmp_path, tensors, "rotary")
    assert torch.equal(module.turn, turn)
    assert module.even.tolist() == [False, True]
    torch.testing.assert_close(module.head.bias.detach(), torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"head.bias": torch.ones(3) * 1j}, r"'head.bias' .*complex64\) .* float32"),
        ({"even": torch.tensor([0.5, 1.0])}, r"'even' .*float32\) cannot become bool"),
        ({"even": torch.tensor([2, 1])}, r"'even' .*int64\) cannot become bool"),
        ({"head.bias": torch.full((3,), 1e300, dtype=torch.float64)}, "float64"),
    ],
)
def test_a_file_whose_values_would_change_is_refused(data, tmp_path, tensors, expected):
    with pytest.raises(ConfigError, match=f"initial_model: .*{expected}"):
        begin_from(data, tmp_path, tensors, "rotary")


def test_buffers_without_a_mean_are_refused(data):
    wanted = config(data, ("unusual", {"kind": "infinite"}), buffers="mean")
    with pytest.raises(ConfigError, match="values that are not finite"):
        build_groups(wanted, read_manifest(str(data)), "split")
    assert groups(data, "unusual", kind="infinite").members
