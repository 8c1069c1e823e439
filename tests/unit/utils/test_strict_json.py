"""JSON that says what is wrong with it, and carries its own checksum."""

import numpy as np
import pytest

from fedapm_mpi.utils import strict_json

TREE = {"a": 1, "b": [1.5, None, "é"], "c": {"d": True}}


def test_what_is_sealed_comes_back_and_says_so():
    raw = strict_json.encode(TREE)
    assert strict_json.decode(raw) == (TREE, True)
    assert raw.decode().splitlines()[1] == '"a": 1,'


def test_no_file_with_a_flipped_bit_passes_for_sealed():
    """What lost the key of its checksum may be read, as one that never had it."""
    raw = strict_json.encode(TREE)
    body = raw.rindex(b'"checksum"')
    read = []
    for at in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[at // 8] ^= 1 << at % 8
        try:
            _, sealed = strict_json.decode(bytes(changed))
        except ValueError:
            continue
        assert not sealed
        read.append(at // 8)
    assert all(at > body for at in read), "of which nothing else can have changed"


def test_what_was_never_sealed_is_read_and_not_called_sealed():
    assert strict_json.decode(b'{"a": 1}') == ({"a": 1}, False)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' is given twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "not an object"),
        (b'{"a": }', "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        (b'{"checksum": "x", "a": 1}', "checksum is not the last line"),
    ],
)
def test_what_is_refused(raw, words):
    with pytest.raises(ValueError, match=words):
        strict_json.decode(raw)


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (strict_json.integer, True, "x is true, not an integer from 0 on"),
        (strict_json.integer, -1, "x is -1, not an integer"),
        (strict_json.integer, 2**63, "not an integer"),
        (strict_json.integer, 1.0, "x is 1.0, not an integer"),
        (strict_json.number, float("nan"), "x is nan, not a finite number"),
        (strict_json.number, 10**400, "not a finite number"),
        (strict_json.number, False, "x is false, not a finite number"),
        (strict_json.text, 1, "x is 1, not a text"),
        (strict_json.text, "\ud800", "surrogates not allowed"),
        (strict_json.list_of, "ab", "x is 'ab', not a list"),
        (strict_json.mapping, [], r"x is \[\], not an object"),
        (strict_json.integers, [1, True], "x has true, not an integer"),
        (strict_json.integers, [1, 2.0], "x has 2.0, not an integer"),
    ],
)
def test_values_of_another_kind_are_named(read, value, words):
    with pytest.raises(ValueError, match=words):
        read(value, "x")


def test_values_that_fit():
    assert strict_json.integer(2**63 - 1, "x") == 2**63 - 1
    assert strict_json.number(3, "x") == 3.0
    assert strict_json.text("é", "x") == "é"
    found = strict_json.integers([[1, 2], [3, 4]], "x", levels=2)
    assert found.dtype == np.int64
    assert found.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="inhomogeneous"):
        strict_json.integers([[1], [2, 3]], "x", levels=2)


def test_plain_values_are_bounded_in_depth():
    deep = "leaf"
    for _ in range(strict_json.MAX_DEPTH):
        deep = [deep]
    strict_json.check_plain(deep)
    with pytest.raises(ValueError, match="more than 32 levels"):
        strict_json.check_plain([deep])
    with pytest.raises(ValueError, match="surrogates"):
        strict_json.check_plain({"\ud800": 1})
