"""The splits that models offer."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fedapm_mpi.engine.partitioned_model import PartitionedModel, trainable
from fedapm_mpi.federation.split_candidates import MAX_CUTS, split_candidates
from tests.support.data.model_tasks import CIFAR10, CREMA_D, KU_HAR, TASKS, build


def found(*modules, **options):
    """Return the candidates' parameters by name."""
    return {c.name: c.personal for c in split_candidates(modules, **options)}


def patterns(module, *personal):
    model = PartitionedModel.from_patterns(module, personal=personal)
    return tuple(model.personal_names)


def network(**layers):
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_laws_of_all_models(name, inputs, classes, options):
    module = build(name, inputs, classes, **options)
    candidates = split_candidates([module])
    sizes = {name: p.numel() for name, p in module.named_parameters()}
    assert candidates[0].name == "nothing"
    assert candidates[0].personal == ()
    assert candidates[-1].name == "all"
    assert candidates[-1].personal == tuple(sizes)
    assert [c.size for c in candidates] == sorted(c.size for c in candidates)
    assert len({frozenset(c.personal) for c in candidates}) == len(candidates)
    assert len({c.name for c in candidates}) == len(candidates)
    for one in candidates:
        assert one.size == sum(sizes[n] for n in one.personal)
        assert list(one.personal) == [n for n in sizes if n in one.personal]
    again = split_candidates([build(name, inputs, classes, **options)])
    assert again == candidates


@pytest.mark.parametrize(("name", "inputs", "classes", "options"), TASKS)
def test_the_ends_are_those_of_a_split_by_position(name, inputs, classes, options):
    module = build(name, inputs, classes, **options)
    candidates = found(module)
    ends = [one for one in candidates if one.startswith(("first_", "last_"))]
    assert len(ends) <= 2 * MAX_CUTS
    for one in ends:
        end, _, k = one.partition("_")
        model = PartitionedModel.from_position(module, **{end: int(k)})
        assert candidates[one] == tuple(model.personal_names)


def test_mlp():
    module = build("mlp", KU_HAR, 8)
    head, body = ("head.weight", "head.bias"), ("body.0.weight", "body.0.bias")
    assert found(module) == {
        "nothing": (),
        "output_bias": ("head.bias",),
        "biases": ("body.0.bias", "head.bias"),
        "head": head,
        "head+biases": ("body.0.bias", *head),
        "first_1": body,
        "all": body + head,
    }
    assert [c.size for c in split_candidates([module])] == [
        0, 8, 8 + 128, 8 * 129, 8 * 129 + 128, 128 * 385, 128 * 385 + 8 * 129
    ]  # fmt: skip


def test_a_linear_model_has_only_its_bias_and_the_ends():
    module = build("logistic", KU_HAR, 8)
    assert list(found(module)) == ["nothing", "output_bias", "all"]


def test_norms_and_blocks_of_a_residual_network():
    module = build("resnet18", CIFAR10, 10, width=8, groups=4)
    candidates = found(module)
    assert candidates["norms"] == patterns(module, "*bn?.*", "*downsample.1.*")
    assert candidates["head"] == patterns(module, "fc.*")
    assert candidates["output_bias"] == ("fc.bias",)
    assert set(candidates["norms+biases"]) == {*candidates["norms"], "fc.bias"}
    # Between the stem and the four layers: 1 and 1 layers, then 8, 10, 10 and 10, of
    # which two are norms of a shortcut and its convolution.
    ends = [int(n[6:]) for n in candidates if n.startswith("first_")]
    assert ends == [1, 2, 10, 20, 30, 40]
    batch = build("resnet18", CIFAR10, 10, width=8, groups=None)
    assert found(batch) == candidates


def test_parts_of_a_transformer():
    module = build("transformer", KU_HAR, 8)
    candidates = found(module)
    assert candidates["norms"] == patterns(module, "encoder.*norm*")
    assert candidates["encoders"] == patterns(module, "*_embed.*", "*_position")
    assert candidates["biases"] == patterns(module, "*bias*")
    # Its largest part is cut as well: before, within and behind the two layers.
    assert set(candidates) >= {"first_3", "first_9", "first_15", "last_14", "last_8"}
    assert candidates["last_8"][0].startswith("encoder.layers.1.")


@pytest.mark.parametrize(
    ("name", "inputs", "encoders"),
    [
        ("har", KU_HAR, ("acc_*", "gyro_*")),
        ("audio-video", CREMA_D, ("audio_*", "video_*")),
        ("image-text", CREMA_D, ("img_proj.*", "text_rnn.*")),
    ],
)
def test_encoders_of_inputs(name, inputs, encoders):
    if name == "image-text":
        inputs = (
            SimpleNamespace(
                name="a", shape=(1, 9), ragged=False, codes=0, complex=False
            ),
            inputs[1],
        )
    module = build(name, inputs, 4)
    assert found(module)["encoders"] == patterns(module, *encoders)


def test_a_modality_alone_is_at_an_end_of_har():
    candidates = found(build("har", KU_HAR, 8))
    module = build("har", KU_HAR, 8)
    assert candidates["first_6"] == patterns(module, "*_conv.*")


def test_encoders_by_the_names_of_children():
    module = network(
        image_encoder=nn.Linear(3, 4), embed=nn.Linear(4, 4), decoder=nn.Linear(4, 2)
    )
    assert found(module)["encoders"] == patterns(module, "image_encoder.*", "embed.*")


def test_a_container_named_as_the_declaration_is_none():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_encoders = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3)])
            self.mix = nn.Linear(3, 3)
            self.out = nn.Linear(3, 2)

    module = Model()
    assert found(module)["encoders"] == patterns(module, "input_encoders.*")


def test_adapters():
    module = build("lora", KU_HAR, 8, base={"name": "mlp"}, frozen=["body.*"])
    candidates = found(module)
    assert candidates["adapters"] == (
        "body.0.lora_a", "body.0.lora_b", "head.lora_a", "head.lora_b",
    )  # fmt: skip
    assert candidates["output_bias"] == ("head.bias",)
    assert candidates["head"] == (
        "head.weight", "head.bias", "head.lora_a", "head.lora_b",
    )  # fmt: skip
    assert "body.0.weight" not in candidates["all"]


def test_layers_with_a_norm_by_their_class_name():
    class ScaleNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    class PreNorm(nn.Module):
        """A block with a norm inside, none itself."""

        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.dense = nn.Linear(4, 4)

    module = network(a=ScaleNorm(), b=PreNorm(), c=nn.RMSNorm(4), d=nn.Linear(4, 2))
    assert found(module)["norms"] == (
        "a.scale", "b.norm.weight", "b.norm.bias", "c.weight",
    )  # fmt: skip


def test_without_biases():
    module = network(a=nn.Linear(3, 4, bias=False), b=nn.Linear(4, 2, bias=False))
    assert found(module) == {
        "nothing": (),
        "head": ("b.weight",),
        "first_1": ("a.weight",),
        "all": ("a.weight", "b.weight"),
    }


def test_a_tied_head_is_personal_with_what_it_is_tied_to():
    module = network(embed=nn.Linear(4, 4), mid=nn.Linear(4, 4), head=nn.Linear(4, 4))
    module.head.weight = module.embed.weight
    candidates = found(module)
    assert candidates["head"] == ("embed.weight", "head.bias")
    assert candidates["output_bias"] == ("head.bias",)
    # By position, a parameter is in the layer whose name it counts under.
    assert "last_1" not in candidates
    assert candidates["last_2"] == ("mid.weight", "mid.bias", "head.bias")


def test_frozen_parameters_do_not_count():
    module = network(a=nn.Linear(3, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2))
    module.c.requires_grad_(False)
    module.a.bias.requires_grad_(False)
    candidates = found(module)
    assert candidates["all"] == ("a.weight", "b.weight", "b.bias")
    assert candidates["head"] == ("b.weight", "b.bias")
    assert candidates["first_1"] == ("a.weight",)


def test_a_complex_number_counts_twice():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 2, dtype=torch.complex64))
            self.bias = nn.Parameter(torch.zeros(2))

    assert [(c.name, c.size) for c in split_candidates([Model()])] == [
        ("nothing", 0), ("output_bias", 2), ("all", 14)
    ]  # fmt: skip


def test_the_output_layer_may_be_registered_first():
    module = network(head=nn.Linear(4, 2), body=nn.Linear(3, 4))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.body = module.head, module.body

    assert found(Model())["head"] == ("head.weight", "head.bias")
    # The children of a Sequential are its stages: there the last one counts.
    assert found(module)["head"] == ("body.weight", "body.bias")


def test_a_head_of_several_layers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
            self.body = nn.Linear(3, 4)

    assert found(Model())["output_bias"] == ("classifier.2.bias",)


def test_deep_models_are_cut_between_their_blocks():
    blocks = (network(a=nn.Linear(2, 2), b=nn.Linear(2, 2)) for _ in range(13))
    stack = nn.Sequential(*blocks)
    module = network(stem=nn.Linear(2, 2), stack=stack, head=nn.Linear(2, 2))
    ends = [one for one in found(module) if one.startswith("first_")]
    # 28 layers, with places behind layers 1, 3, 5, ..., 27.
    assert ends == [f"first_{k}" for k in (1, 7, 11, 17, 21, 27)]


def test_models_that_differ():
    """What they do not have in common, or not in one shape, is always personal."""
    one = network(a=nn.Linear(3, 4), b=nn.Linear(4, 4), head=nn.Linear(4, 2))
    two = network(a=nn.Linear(5, 4), b=nn.Linear(4, 4), head=nn.Linear(4, 2))
    candidates = split_candidates([one, two])
    assert [(c.name, c.personal, c.size) for c in candidates][:2] == [
        ("differing", ("a.weight",), 20),
        ("output_bias", ("a.weight", "head.bias"), 22),
    ]
    assert all("a.weight" in c.personal for c in candidates)
    assert candidates[-1].size == sum(p.numel() for _, p in trainable(two))


def test_parts_that_only_some_models_have():
    both = build("har", KU_HAR, 8)
    acc = build("har", KU_HAR[:1], 8)
    gyro = patterns(both, "gyro_*")
    candidates = found(acc, both)
    assert candidates["differing"] == gyro
    assert set(candidates["encoders"]) == set(patterns(both, "acc_*")) | set(gyro)
    candidates = found(acc, both, partially_shared=["gyro_*"])
    assert candidates["nothing"] == ()
    assert set(candidates["first_6"]) == set(patterns(both, "*_conv.*"))
    # In the order of the first model that has a parameter.
    assert candidates["all"][-len(gyro) :] == gyro


@pytest.mark.parametrize(
    ("architecture", "output"),
    [("bert", "classifier"), ("roberta", "classifier.out_proj"),
     ("modernbert", "classifier")],
)  # fmt: skip
def test_encoders_of_hugging_face(architecture, output):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        architecture, vocab_size=20, hidden_size=4, num_hidden_layers=3,
        num_attention_heads=2, intermediate_size=8, pad_token_id=0, num_labels=3,
    )  # fmt: skip
    module = transformers.AutoModelForSequenceClassification.from_config(config)
    candidates = found(module)
    assert candidates["head"] == (f"{output}.weight", f"{output}.bias")
    norms = {n for n in candidates["all"] if "norm" in n.lower()}
    assert set(candidates["norms"]) == norms
    blocks = {n.partition(".layer")[2].split(".")[1] for n in norms if ".layer" in n}
    assert blocks == {"0", "1", "2"}
    # Cut between its blocks, not within them.
    for one, personal in candidates.items():
        if one.startswith("last_"):
            for block in blocks:
                whole = {n for n in candidates["all"] if f".{block}." in n}
                assert not whole & set(personal) or whole <= set(personal), one
