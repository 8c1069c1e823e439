from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedapm_mpi.aggregators import AggregationContext
from fedapm_mpi.aggregators.exact import Exact, decode, encode, scale_exponent
from fedapm_mpi.comm import Serial

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
terms = st.lists(arrays(np.float64, 3, elements=finite), min_size=1, max_size=9)


def largest(increments) -> float:
    return float(max(np.abs(x).max() for x in increments))


def context(increments, top, length=None) -> AggregationContext:
    clients = range(len(increments))
    return AggregationContext(
        round_index=0,
        participants=np.array(clients, dtype=np.int64),
        clients=clients,
        seed=0,
        length=len(increments[0]) if length is None else length,
        largest=top,
    )


@given(terms, st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_grouping_and_order_do_not_matter_and_nothing_overflows(increments, random):
    top = largest(increments)
    if top == 0:
        return
    exponent = scale_exponent(top, len(increments))
    whole = encode(increments, 3, exponent)
    shuffled = list(increments)
    random.shuffle(shuffled)
    cut = random.randrange(len(shuffled) + 1)
    parts = encode(shuffled[:cut], 3, exponent) + encode(shuffled[cut:], 3, exponent)
    assert (whole == parts).all()
    true = [sum(Fraction(float(x[k])) for x in increments) for k in range(3)]
    unit = Fraction(2) ** -exponent
    for k in range(3):
        assert abs(int(whole[k])) < 2**62 + 1
        assert abs(int(whole[k]) * unit - true[k]) <= len(increments) * unit / 2


@pytest.mark.parametrize("magnitude", [5e-324, 1e-310, 1e-200, 1.0, 1e200, 1.7e308])
def test_any_magnitude_is_summed_to_full_precision(magnitude):
    increments = [np.array([magnitude, -magnitude / 2]), np.array([-magnitude, 0.0])]
    total = Exact().sum(Serial(), increments, context(increments, magnitude))
    np.testing.assert_allclose(total, [0.0, -magnitude / 2], rtol=1e-12)


def test_many_terms_of_the_largest_size_fit():
    exponent = scale_exponent(1.0, 100_000)
    one = int(encode([np.array([1.0])], 1, exponent)[0])
    assert one * 100_000 < 2**62
    assert one >= 2**43  # and that still is far finer than float32


def test_powers_of_two_decode_exactly():
    exponent = scale_exponent(4.0, 7)
    encoded = encode([np.array([4.0, 0.25])] * 7, 2, exponent)
    decoded = np.empty(2)
    decode(encoded, exponent, decoded)
    assert decoded.tolist() == [28.0, 1.75]


def test_blocks_do_not_change_the_sum(monkeypatch):
    rng = np.random.default_rng(0)
    increments = [rng.normal(size=1000) for _ in range(4)]

    def total():
        return Exact().sum(
            Serial(), increments, context(increments, largest(increments))
        )

    whole = total()
    np.testing.assert_allclose(whole, np.sum(increments, axis=0), rtol=1e-14)
    monkeypatch.setattr("fedapm_mpi.aggregators.exact.BLOCK_ELEMENTS", 7)
    assert (total() == whole).all()
