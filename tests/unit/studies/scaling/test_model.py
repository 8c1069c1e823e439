"""The model of a round's time: its fit, its draws, what it predicts."""

import pytest

from fedapm_mpi.studies.scaling.model import fit_model
from fedapm_mpi.studies.scaling.predict import hold_out
from tests.support.round_times import TRUE, study


def test_the_fit_recovers_what_the_times_were_made_of():
    model = fit_model(study())
    for phase, coefficients in TRUE.items():
        found = model.parts[phase].coefficients
        assert {k: v for k, v in found.items() if v} == pytest.approx(
            coefficients, rel=1e-6
        ), phase
    assert not any(model.parts["spread"].coefficients.values())
    whole = {k: v for k, v in model.parts["evaluation"].coefficients.items() if v}
    assert whole == pytest.approx({"1": 1e-3, "all": 1e-5})


def test_the_largest_points_are_predicted():
    samples = study()
    held = hold_out(samples, ["strong-16-4000", "weak-16-4000"], 2)
    assert [one.case for one in held] == ["strong-16-4000", "weak-16-4000"]
    assert all(abs(one.error) < 1e-6 for one in held)
    assert hold_out(samples[:2], [samples[0].case]) == []
