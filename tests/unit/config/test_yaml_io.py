"""What is read from a configuration's YAML, by the rules of YAML 1.2, and written."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.config.loader import load, validate
from fedapm_mpi.errors import ConfigError
from tests.unit.config.test_loader import VALID, changed, errors_of


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("on", "on"), ("n", "n"), ("true", True), ("False", False),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("+7", 7),
        ("1_000", "1_000"), ("0b1", "0b1"), ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"), ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5),
        ("-.5", -0.5), ("1.", 1.0), ("1.0", 1.0), ("1.0e-05", 1e-5), ("~", None),
        ("", None), ("null", None), ("'1'", "1"), ('"yes"', "yes"), ("<<", "<<"),
        ("head.*", "head.*"), ("a:b", "a:b"), ("|\n x", "x"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = yamlfile.parse(f"key: {text}")["key"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "'a' is given twice, in line 1, column 1 and in line 3"),
        ("a: {x: 1, y: 2, x: 3}", "column 5 and in line 1, column 17"),
        ("a: {'x': 1, \"x\": 3}", "'x' is given twice"),
        ("1: a\n01: b", "the key 1 is given twice"),
        ("a: &b {x: 1}\nc: {<<: *b, <<: *b}", "'<<' is given twice"),
        ("a: !!int x", "tags such as 'tag:yaml.org,2002:int' are not taken"),
        ("a: !!python/object/apply:os.system [x]", "are not taken"),
        ("a: !own x", "tags such as '!own' are not taken"),
        ("a: " + "9" * 4400, "line 1, column 4: a number of 4400 characters"),
        ("[" * 3000, "nested more than 64 levels"),
        ("{a: " * 3000, "nested more than 64 levels"),
        ("- " * 3000, "nested more than 64 levels"),
        ("a\0: 1", "character 2 (code 0x0)"),
        ("\ta: 1", "found character '\\t'"),
        ("a: 1\n---\nb: 1", "line 2, column 1: another document begins here"),
        ("%YAML 1.1\n---\na: yes", "read as YAML 1.2"),
        ("a: &x [*x]", "nothing before it has the anchor &x"),
        ("a: *x", "nothing before it has the anchor &x"),
        ("a: {<<: 3}", "what '<<' adds must be a mapping"),
        ("? [1]\n: 2", "a key must be a string, not a list or a mapping"),
        ("true: 1", "a key must be a string, not true"),
        ("a: [1", "expected ',' or ']'"),
        ('a: "\\UFFFFFFFF"', "too large"),
    ],
)
def test_what_cannot_be_read_is_reported_in_one_short_line(text, expected):
    with pytest.raises(ValueError, match=r"\w") as caught:
        yamlfile.parse(text)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_aliases_are_copies_and_merged_keys_lose():
    values = yamlfile.parse("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 5}\nc: *a\n")
    assert values["b"] == {"x": 5, "y": 2}
    assert values["c"] == values["a"]
    assert values["c"] is not values["a"]
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n'<<': 3\n"
    values = yamlfile.parse(text)
    assert (values["c"], values["<<"]) == ({"x": 1, "y": 2}, 3)


def test_nesting_is_counted_with_what_aliases_stand_for():
    assert yamlfile.parse("[" * 64 + "]" * 64)
    chain = ["a0: &a0 [1]", *(f"a{k}: &a{k} [*a{k - 1}]" for k in range(1, 63))]
    assert yamlfile.parse("\n".join(chain))["a62"]
    for text in ("[" * 65 + "]" * 65, "\n".join([*chain, "a63: [*a62]"])):
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            yamlfile.parse(text)


def test_an_alias_stands_for_the_last_anchor_of_its_name():
    assert yamlfile.parse("[&x 1, *x, &x 2, *x]") == [1, 1, 2, 2]


def test_as_many_values_as_are_allowed_are_read(monkeypatch):
    """By aliases, since the reader takes seconds for as many words of text."""
    most = yamlfile.MAX_VALUES
    ones, again = "1," * 999, "*a," * (most // 1000 - 2)
    values = yamlfile.parse(f"[&a [{ones}], {again} {ones}]")
    assert 1 + sum(1000 if one != 1 else 1 for one in values) == most
    assert all(one in (1, [1] * 999) for one in values)
    with pytest.raises(ValueError, match=f"more than {most} values"):
        yamlfile.parse(f"[&a [{ones}], {again} {ones} 1]")
    monkeypatch.setattr(yamlfile, "MAX_VALUES", 1000)
    assert len(yamlfile.parse(f"[{ones}]")) == 999
    with pytest.raises(ValueError, match="more than 1000 values"):
        yamlfile.parse(f"[{ones} 1]")


def test_aliases_of_aliases_are_bounded():
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for k in range(1, 12):
        again = ", ".join([f"*a{k - 1}"] * 9)
        lines.append(f"a{k}: &a{k} [{again}]")
    begun = time.monotonic()
    with pytest.raises(ValueError, match="more than 100000 values"):
        yamlfile.parse("\n".join(lines))
    assert time.monotonic() - begun < 5


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["yes", "No", "010", "1e5", ".5e3", "1:30", "~", "2020-01-01"]),
    lambda inside: st.lists(inside, max_size=3)
    | st.dictionaries(st.text("ab.y:-# ", max_size=4), inside, max_size=3),
    max_leaves=8,
)  # fmt: skip


def test_what_is_written_keeps_its_order_and_its_copies():
    one = {"z": [1, 2], "b": (3.5, 1e-05)}
    text = yamlfile.dump({"b": one, "a": one, "long": "word " * 40})
    half = "  z:\n  - 1\n  - 2\n  b:\n  - 3.5\n  - 1.0e-05\n"
    assert text == f'b:\n{half}a:\n{half}long: "{"word " * 40}"\n'


@given(st.dictionaries(st.sampled_from(["a", "on", "1"]), plain))
def test_what_is_written_is_read_alike_by_old_and_new(values):
    text = yamlfile.dump(values)
    assert yamlfile.parse(text) == values
    assert yaml.safe_load(text) == values  # YAML 1.1, as runs were read before


def test_what_was_written_before_is_read_as_it_was():
    values = {"a": 1e-5, "b": [1e20, 3.0, "yes", "on", "010", "1:30", "2020-01-01"]}
    values |= {"c": {"d": None, "e": True, "f": "", "g": [], "h": {}, "i": -0.5}}
    assert yamlfile.parse(yaml.safe_dump(values, sort_keys=False)) == values


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "but is empty"),
        (b"# nothing\n", "but is empty"),
        (b"- a\n- b\n", "not a list"),
        (b"word\n", "not 'word'"),
        (b"a: 1\nb: \xff\n", "line 2: this is not UTF-8 text (byte 0xff)"),
        ("a: 1".encode("utf-16"), "not UTF-8 text"),
        (b"x" * 100_000, "(100002 characters)"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path, data, expected):
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(yamlfile, "MAX_BYTES", 2**20)
    path = tmp_path / "c.yaml"
    path.write_bytes(b"# \n" + b"#" * (2**20 - 3))
    assert yamlfile.read(path) is None
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(path)


@pytest.mark.parametrize("begin", ["\ufeff", "", "# über\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_of_other_editors_do_not_matter(tmp_path, begin, end):
    path = tmp_path / "c.yaml"
    text = begin + yaml.safe_dump(VALID)
    path.write_bytes(text.replace("\n", end).encode())
    assert load(path).algorithm["rho"] == 0.01


def test_a_key_given_twice_in_a_configuration_names_both_lines(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(VALID) + "rounds: 5\n")
    twice = r"'rounds' is given twice, in line 14, .* in line 18"
    with pytest.raises(ConfigError, match=twice):
        load(path)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("rounds=yes", "rounds: input should be a valid integer, got 'yes'"),
        ("rounds=true", "rounds: input should be a valid integer, got true"),
        ("rounds=3.0", "rounds: input should be a valid integer, got 3.0"),
        ("rounds='3'", "rounds: input should be a valid integer, got '3'"),
        ("seed=1:30", "seed: input should be a valid integer, got '1:30'"),
        ("seed=1_000", "seed: input should be a valid integer, got '1_000'"),
        ("data=5", "data: input should be a valid string, got 5"),
        ("data=2020-01-01", "2020-01-01"),
        ("evaluation.pooled=1", "pooled: input should be a valid boolean, got 1"),
        ("evaluation.pooled=yes", "pooled: input should be a valid boolean, got 'yes'"),
        ("tolerance.relative=.inf", "relative: input should be a finite number"),
        ("tolerance.relative=1e999", "relative: input should be a finite number"),
        ("tolerance.relative=true", "relative: input should be a valid number"),
        ("algorithm.rho=.nan", "rho: input should be a finite number"),
        ("algorithm.rho='0.1'", "rho: input should be a valid number, got '0.1'"),
        ("algorithm.batch_size=true", "batch_size: input should be a valid integer"),
        ("algorithm.shared_work.steps=false", "steps: input should be a valid integer"),
        ("model.hidden=[true]", "hidden[0]: input should be a valid integer"),
        ("model.hidden=3", "hidden: input should be a valid list, got 3"),
        ("model.hidden=['8']", "hidden[0]: input should be a valid integer"),
        ("evaluation=[1]", "evaluation: input should be a mapping, got [1]"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(tmp_path, override, expected):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(VALID))
    if override.startswith("data=2020"):
        assert load(path, [override]).data.endswith(expected)
        return
    with pytest.raises(ConfigError) as caught:
        load(path, [override])
    assert expected in str(caught.value)


def test_numbers_written_otherwise_are_taken(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(VALID))
    config = load(path, ["seed=010", "algorithm.rho=1e-3", "algorithm.sigma=1"])
    assert (config.seed, config.algorithm["rho"], config.algorithm["sigma"]) == (
        10, 0.001, 1.0,
    )  # fmt: skip
    assert validate(changed(model={"name": "mlp", "hidden": [3]}), "x").model == {
        "name": "mlp", "hidden": (3,),
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"data": ["x" * 100_000]},
        {"x" * 100_000: 1},
        {"model": {"name": "x" * 100_000}},
        {"model": {"name": "mlp", "y" * 100_000: 1}},
        {"model": {"name": "mlp", "hidden": "z" * 100_000}},
        {"seed": "[" * 100_000},
        {"evaluation": {"every" * 20_000: 1}},
        {f"k{k}": k for k in range(5000)},
        {"model": {"name": "mlp", "hidden": ["a"] * 100_000}},
        {"groups": [{"model": {}, "clients": ["x" * 100_000]}] * 3},
    ],
)
def test_a_refusal_does_not_repeat_the_whole_input(values):
    begun = time.monotonic()
    assert len(errors_of(changed(**values, rounds="no"))) < 6000
    assert time.monotonic() - begun < 10


def test_a_long_override_is_cut():
    with pytest.raises(ConfigError) as caught:
        load(None, ["x" * 100_000])
    assert len(str(caught.value)) < 300
    with pytest.raises(ConfigError) as caught:
        load(None, ["a=[" + "x" * 100_000])
    assert len(str(caught.value)) < 500


def test_keys_of_nested_things_are_suggested():
    text = errors_of(
        changed(
            groups=[{"model": {"name": "mlp"}, "cleints": [1]}],
            participation={"name": "random", "fraction": 0.5, "seed": 1},
            algorithm=VALID["algorithm"] | {"shared_work": {"stepps": 4}},
        )
    )
    assert "groups[0].cleints: unknown key; did you mean 'clients'?" in text
    assert "participation 'random': seed: unknown key (known: count, fraction)" in text
    assert "shared_work.stepps: unknown key; did you mean 'steps'?" in text
