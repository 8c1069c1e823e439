"""Texts and values that are cut to a length that can be read."""

import pytest

from fedapm_mpi.utils.text import (
    MAX_ITEMS,
    format_ids,
    format_list,
    format_some,
    format_value,
    one_line,
    shorten,
    truncate,
)


def test_long_texts_are_cut():
    assert shorten("x" * 41) == "x" * 39 + "…"
    assert shorten("x" * 40) == "x" * 40
    assert truncate("x" * 80) == "x" * 80
    assert truncate("x" * 81) == "x" * 80 + "… (81 characters)"


def test_any_text_fits_on_one_line():
    assert one_line("a\n  b\t\x1b[2J") == r"a b \x1b[2J"
    assert one_line("x" * 201) == "x" * 200 + "… (201 characters)"
    assert one_line(" " * 10**6).endswith("… (1000000 characters)")


def test_values_are_written_as_in_a_configuration():
    values = [None, True, 1.5, "it's", ["a"]]
    assert [format_value(value) for value in values] == [
        "null", "true", "1.5", '"it\'s"', "['a']",
    ]  # fmt: skip
    assert format_value("x" * 90) == f"'{'x' * 79}… (92 characters)"
    assert format_value(10**5000) == "a value of type int"


def test_of_many_values_only_the_first_are_shown():
    assert format_some("abc") == "a, b, c"
    assert format_some(range(9), most=2) == "0, 1, … (7 more)"
    lines = format_list(map(str, range(MAX_ITEMS + 3))).splitlines()
    assert len(lines) == MAX_ITEMS + 1
    assert lines[-1] == "  and 3 more"


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], ""), ([3], "3"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7")],
)
def test_ids_as_ranges(ids, text):
    assert format_ids(ids) == text
