"""Options checked against signatures; every mistake reported at once."""

from fedapm_mpi.config.validation import validate_options
from tests.support.valid_config import VALID, changed, errors_of


def test_every_error_is_reported_at_once_with_the_nearest_key():
    text = errors_of(
        changed(
            ruonds=5,
            seed=-1,
            model={"name": "mpl"},
            algorithm=VALID["algorithm"] | {"sgima": 1, "rho": "much", "lr_shared": -3},
            evaluation={"evry": 2},
            participation={"name": "random", "fracton": 0.5},
        )
    )
    for words in (
        "ruonds: unknown key; did you mean 'rounds'",
        "unknown model 'mpl'; did you mean 'mlp'",
        "sgima: unknown key; did you mean 'sigma'",
        "rho: input should be a valid number",
        "seed: input should be greater than or equal to 0, got -1",
        "lr_shared: input should be greater than 0",
        "evaluation.evry: unknown key; did you mean 'every'",
        "fracton: unknown key; did you mean 'fraction'",
    ):
        assert words in text, text


def test_options_of_a_users_own_function_are_checked_by_its_signature():
    def factory(inputs, classes, *, width: int, depth: int = 2):
        raise AssertionError

    checked, errors = validate_options("model 'x'", factory, {"width": 8}, 2)
    assert (checked, errors) == ({"width": 8, "depth": 2}, [])
    _, errors = validate_options("model 'x'", factory, {"widht": 8}, 2)
    assert sorted(errors) == [
        "model 'x': widht: unknown key; did you mean 'width'? (known: depth, width)",
        "model 'x': width: missing",
    ]
