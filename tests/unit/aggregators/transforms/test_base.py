"""Transforms of updates, among them a user's own with a state of its own."""

import numpy as np
import pytest
import torch

from fedapm_mpi.aggregators.transforms import (
    TransformChain,
    UpdateContext,
    UpdateTransform,
    transforms,
)
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import ConfigError
from fedapm_mpi.plugins.errors import PluginError
from fedapm_mpi.training.context import open_context
from fedapm_mpi.training.identity import identity_of
from tests.support.plugins.top_k import TopK
from tests.support.processes.cli_runs import experiment


def context(model_length=4) -> UpdateContext:
    return UpdateContext(3, 0, np.array([1, 3]), 0, model_length)


def clip(norm):
    return transforms.get("clip")(max_norm=norm)


def test_clipping_scales_the_model_and_nothing_else():
    update = np.array([3.0, 0, 4, 0, 7])
    found = clip(1.0).encode(update.copy(), {}, context())
    np.testing.assert_allclose(found, [0.6, 0, 0.8, 0, 7])
    same = clip(5.0).encode(update.copy(), {}, context())
    assert same.tolist() == update.tolist()
    with pytest.raises(ValueError, match="max_norm must be positive"):
        clip(0.0)


class Add(UpdateTransform):
    """Append to the order in which transforms are called."""

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def encode(self, update, state, context):
        self.calls.append(f"encode {self.name}")
        return update

    def decode(self, total, context):
        self.calls.append(f"decode {self.name}")
        return total


def test_a_chain_encodes_in_order_and_decodes_in_reverse():
    calls = []
    chain = TransformChain([(None, Add("a", calls)), (None, Add("b", calls))], 2)
    chain.encode(np.zeros(2), {}, context())
    chain.decode(np.zeros(2), None)
    assert calls == ["encode a", "encode b", "decode b", "decode a"]


def test_two_of_a_kind_have_a_state_each():
    chain = TransformChain([(None, TopK(0.5)), (None, TopK(0.25))], 4)
    state = chain.new_client_state()
    assert sorted(state) == [
        "update_transforms.0.residual",
        "update_transforms.1.residual",
    ]
    sent = chain.encode(np.array([1.0, 2, 3, 4]), state, context())
    assert sent.tolist() == [0, 0, 0, 4]
    assert state["update_transforms.0.residual"].tolist() == [1, 2, 0, 0]
    assert state["update_transforms.1.residual"].tolist() == [0, 0, 3, 0]


@pytest.mark.parametrize("wrong", [None, np.zeros(3), np.zeros(2, np.float32)])
def test_what_a_users_own_returns_is_checked(wrong):
    class Wrong(UpdateTransform):
        def encode(self, update, state, context):
            return wrong

    chain = TransformChain([("update transform 'x:y'", Wrong())], 2)
    with pytest.raises(PluginError, match=r"'x:y': encode returned .* shape \(2,\)"):
        chain.encode(np.zeros(2), {}, context())


def opened(data, *parts):
    values = experiment(data, update_transforms=list(parts))
    return open_context(validate(values, "test"), Serial())


def test_its_tensors_join_the_state_of_every_client(toy):
    part = {"name": "tests.support.plugins.top_k:TopK", "fraction": 0.1}
    session = opened(toy["features"], part)
    residual = session.table.peek(0)["update_transforms.0.residual"]
    assert residual.shape == (session.payload.up_length,)
    assert residual.dtype == torch.float64


def test_what_is_no_transform_is_refused(toy):
    with pytest.raises(ConfigError, match="it must be, or return, an UpdateTransform"):
        opened(toy["features"], {"name": "builtins:object"})


def test_options_are_checked_and_a_name_alone_will_do(toy):
    with pytest.raises(ConfigError, match=r"update_transforms\[0\].*max_norn"):
        opened(toy["features"], {"name": "clip", "max_norn": 1})
    with pytest.raises(ConfigError, match=r"update_transforms\[0\].*max_norm"):
        opened(toy["features"], "clip")


def test_a_run_without_transforms_has_the_identity_it_had(toy):
    plain = validate(experiment(toy["features"]), "test").plain()
    assert "update_transforms" not in identity_of(plain)
    clipped = [{"name": "clip", "max_norm": 1.0}]
    assert identity_of(plain | {"update_transforms": clipped}) != identity_of(plain)
