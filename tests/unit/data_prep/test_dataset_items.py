"""The source that items make, and the hash of what they hold."""

import numpy as np

from data_prep.dataset_items import Items, source_of_items

PAIRS = [(np.array([k, 1.5]), k % 2) for k in range(6)]


def test_parts_are_codes_in_their_order():
    made = source_of_items("set", {"test": PAIRS[:2], "train": PAIRS[2:]}, Items())
    assert made.source.split.tolist() == [1, 1, 0, 0, 0, 0]
    x = made.source.table.columns[0].fetch(np.arange(6))
    assert x[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert source_of_items("set", {"": PAIRS}, Items()).source.split is None


def test_groups_count_within_their_clients():
    made = source_of_items(
        "set", {"": PAIRS}, Items(), clients=list("aabbab"), groups=[7, 7, 7, 7, 8, 8]
    )
    assert made.source.id_names == ("a", "b")
    assert len(set(made.source.groups.tolist())) == 4


def test_mappings_of_inputs_keep_the_chosen_order():
    items = [({"b": 1, "a": k}, 0.5 + k) for k in range(4)]
    made = source_of_items("set", {"": items}, Items(inputs=("a", "b")))
    assert [c.spec.name for c in made.source.table.columns] == ["a", "b"]
    assert made.source.table.target.kind == "real"
    assert "real target of a regression" in made.source.notes[0]


def test_the_hash_is_of_inputs_targets_and_parts():
    def sha256(parts, **options):
        return source_of_items("set", parts, Items(**options)).sha256

    first = sha256({"": PAIRS})
    assert sha256({"": list(PAIRS)}) == first
    other = [*PAIRS[:5], (PAIRS[5][0], 0)]
    assert sha256({"": other}) != first
    assert sha256({"": PAIRS[:5]}) != first
    assert sha256({"train": PAIRS[:3], "test": PAIRS[3:]}) != first
