"""Splits in which nothing is personal, or nothing shared, as other methods' equals."""

import pytest
from safetensors.torch import load_file

from fedapm_mpi.algorithms import Algorithm
from fedapm_mpi.algorithms.fedapm import FedAPM
from fedapm_mpi.analysis.client_model import recompute_digest
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.training.context import open_context
from tests.support.algorithm_options import SHARING_PART
from tests.support.data.recorded import (
    EVERYTHING,
    JOINT,
    final_clients,
    go,
    same_tensors,
)
from tests.support.processes.cli_runs import (
    FEDAPM,
    FEDSIM,
    assert_same_run,
    digest_of,
    experiment,
    rounds_of,
)

NOTHING_PERSONAL = {"personal": []}
NOTHING_SHARED = {"shared": []}
OWN = {"units": "client", "rho": 0.5, "lr_shared": 0.05, "lr_personal": 0.05}
ADMM = {"name": "fedadmm", "units": "client", "rho": 0.5, "lr": 0.05, "batch_size": 8}
ADMM |= {"work": {"epochs": 1}}
SOLVER = {
    "optimizer": {"name": "adam", "state": "keep"},
    "schedule": {"name": "cosine", "warmup": 1},
    "clip": {"norm": 0.5},
}
COMMON = {
    "plain": ({}, {}),
    "relaxed": ({"relaxation": 1.6, "residual_balancing": {"ratio": 2.0}}, {}),
    "decay": ({"weight_decay": 0.1, "dual_step": 0.5}, {"client_weights": "samples"}),
    "weighted": ({"units": "weighted", "rho": 0.05}, {"dtype": "float32"}),
    "adam": ({}, SOLVER),
}
"""Options of both methods, and keys of both configurations."""


@pytest.fixture
def odd(toy):
    """Return data with a client without training samples, and one without tests."""
    return toy["odd"]


@pytest.mark.parametrize(("options", "keys"), COMMON.values(), ids=COMMON)
@pytest.mark.parametrize("start", ["global", "local"])
def test_with_nothing_personal_it_is_fedadmm(odd, tmp_path, start, options, keys):
    """Bit for bit: the server, all copies, duals, penalties, states and residuals."""
    ours = go(
        tmp_path / "fedapm", odd, split=NOTHING_PERSONAL, diagnostics=EVERYTHING,
        algorithm=FEDAPM | OWN | options | {"u_init": start}, **keys,
    )  # fmt: skip
    other = go(
        tmp_path / "fedadmm", odd, split=None, diagnostics=EVERYTHING,
        algorithm=ADMM | options | {"init": start}, **keys,
    )  # fmt: skip
    same_tensors(final_clients(ours), final_clients(other))
    servers = (load_file(run / "final" / "server.safetensors") for run in (ours, other))
    same_tensors(*servers)
    for mine, theirs in zip(rounds_of(ours), rounds_of(other), strict=True):
        timed = ("seconds", "wall_seconds", "check", "lr", "factor")
        kept = [key for key in mine if not any(word in key for word in timed)]
        assert {key: mine[key] for key in kept} == {key: theirs[key] for key in kept}


@pytest.mark.parametrize("keys", [{}, SOLVER], ids=["plain", "adam"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_everything_personal_and_no_sigma_it_is_local(odd, tmp_path, decay, keys):
    """Bit for bit in all clients' models, and nothing is sent."""
    joint = JOINT | OWN | {"lr_personal": 0.1, "sigma": 0.0, "weight_decay": decay}
    ours = go(
        tmp_path / "fedapm", odd, split=NOTHING_SHARED, diagnostics=EVERYTHING,
        algorithm=joint | {"joint_work": {"epochs": 2}}, **keys,
    )  # fmt: skip
    local = {"name": "local"} | FEDSIM | {"weight_decay": decay}
    other = go(tmp_path / "local", odd, split=None, algorithm=local, **keys)
    same_tensors(final_clients(ours), final_clients(other))
    for mine, theirs in zip(rounds_of(ours)[1:], rounds_of(other)[1:], strict=True):
        for key in ("train_loss", "loss", "accuracy", "clipped"):
            assert mine.get(key) == theirs.get(key)
        assert mine["bytes"] == {"broadcast": 0, "reduce": 0}
        residuals = [mine[f"{kind}_residual"] for kind in ("primal", "dual")]
        assert [*residuals, mine["drift"], mine["dual_sum"]] == [0.0] * 4


@pytest.mark.parametrize("name", ["fedalt", "fedrep"])
@pytest.mark.parametrize("split", [NOTHING_PERSONAL, NOTHING_SHARED], ids=str)
def test_alternating_methods_take_the_phase_that_is_left(odd, tmp_path, name, split):
    """It is FedAPM's without dual, penalty and sigma; here each client's first."""
    works = ("head_work", "body_work") if name == "fedrep" else (
        "personal_work", "shared_work")  # fmt: skip
    sizes = ("lr_head", "lr_body") if name == "fedrep" else ("lr_personal", "lr_shared")
    options = {"name": name, "batch_size": 8}
    options |= {key: {"epochs": 1} for key in works} | dict.fromkeys(sizes, 0.05)
    once = {"rounds": 1, "participation": "full", "split": split}
    ours = final_clients(go(tmp_path / "ours", odd, algorithm=options, **once))
    admm = FEDAPM | OWN | {"sigma": 0.0, "rho": 1e-300}
    theirs = final_clients(go(tmp_path / "theirs", odd, algorithm=admm, **once))
    theirs = {key: theirs[key] for key in theirs if "dual" not in key}
    same_tensors(ours, theirs)


@pytest.mark.parametrize(
    ("end", "ways"),
    [
        (NOTHING_PERSONAL, [{"shared": ["*"]}, {"rule": "user_parts:is_absent"}]),
        (NOTHING_SHARED, [{"personal": ["*"]}, {"first": 1, "last": 1}, {"last": 2}]),
    ],
    ids=["nothing personal", "nothing shared"],
)
def test_each_way_to_write_an_end_is_the_same_run(toy, tmp_path, end, ways):
    digests = {
        digest_of(go(tmp_path / str(k), toy["features"], split=split, rounds=2))
        for k, split in enumerate((end, *ways))
    }
    assert len(digests) == 1


@pytest.mark.parametrize("split", [NOTHING_PERSONAL, NOTHING_SHARED], ids=str)
@pytest.mark.parametrize("keys", [{}, SOLVER], ids=["plain", "adam"])
def test_a_run_continues_to_the_same_digest(odd, tmp_path, split, keys):
    changes = {"split": split, "algorithm": FEDAPM | OWN, "diagnostics": EVERYTHING}
    # The schedule of the shorter run is that of the longer one.
    keys = keys and keys | {"schedule": keys["schedule"] | {"rounds": 5}}
    whole = go(tmp_path / "whole", odd, **changes, **keys)
    parted = go(tmp_path / "parted", odd, rounds=2, **changes, **keys)
    go(parted, odd, resume=True, **changes, **keys)
    assert_same_run(parted, whole)
    assert recompute_digest(whole) == digest_of(whole)


def test_a_configuration_is_copied_from_one_split_to_another(odd, tmp_path):
    """The only key that changes is the split."""
    for k, split in enumerate((NOTHING_PERSONAL, {"personal": ["head.*"]},
                               {"personal": ["*bias*"]}, NOTHING_SHARED)):  # fmt: skip
        run = go(tmp_path / str(k), odd, split=split, algorithm=FEDAPM | OWN)
        personal = [key for key in final_clients(run) if key.endswith("/personal")]
        assert bool(personal) == (split != NOTHING_PERSONAL)


def test_a_phase_without_parameters_costs_nothing(toy, capsys):
    """The prediction counts the phase that is left; nothing is sent."""

    def costs(split, **options):
        config = experiment(toy["features"], split=split, algorithm=FEDAPM | options)
        return open_context(validate(config, "test"), Serial())

    both, work = costs({"personal": ["head.*"]}), {"personal_work": {"epochs": 3}}
    counts = both.federation.manifest.counts["train"]
    assert both.federation.training_costs.tolist() == (2 * counts).tolist()
    for split, passes in ((NOTHING_PERSONAL, 1), (NOTHING_SHARED, 3)):
        context = costs(split, **work)
        assert context.federation.training_costs.tolist() == (passes * counts).tolist()
    assert context.payload.down_length == context.payload.up_length == 0


class Inherited(FedAPM):
    """A user's method that says nothing of its blocks."""

    trained_blocks = Algorithm.trained_blocks


@pytest.mark.parametrize("split", [NOTHING_PERSONAL, NOTHING_SHARED], ids=str)
def test_what_needs_both_sides_is_refused(toy, split):
    word = next(iter(split))
    for algorithm in (
        SHARING_PART["fedbabu"],
        FEDAPM | {"name": f"{__name__}:Inherited"},
    ):
        config = experiment(toy["features"], split=split, algorithm=algorithm)
        with pytest.raises(ConfigError) as caught:
            open_context(validate(config, "test"), Serial())
        for words in (f"no parameter is {word}; algorithm", "needs both sides",
                      "fedavg, to share nothing use local"):  # fmt: skip
            assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": {"personal": ["hed.*"]}}, "'hed.*' matches no parameter"),
        ({"split": {"shared": ["hed.*"]}}, "'hed.*' matches no parameter"),
        ({"split": NOTHING_SHARED, "tolerance": {"relative": 0.1}},
         "tolerance: nothing is shared with algorithm 'fedapm' and this split"),
        ({"split": {"personal": []},
          "evaluation": {"fine_tune": {"block": "personal", "lr": 0.1,
                                       "work": {"steps": 1}}}},
         "nothing is personal with algorithm 'fedapm'"),
    ],
)  # fmt: skip
def test_mistakes_are_still_refused(toy, changes, words):
    config = experiment(toy["features"], **changes)
    with pytest.raises(ConfigError) as caught:
        open_context(validate(config, "test"), Serial())
    assert words in str(caught.value)
