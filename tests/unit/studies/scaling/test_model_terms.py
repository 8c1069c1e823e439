"""What the terms of a round's time tell apart, and what they cannot."""

import dataclasses

import pytest

from fedapm_mpi.studies.scaling.model import fit_model
from tests.support.round_times import TRUE, study, true_phases


def test_a_broadcast_still_on_its_way_is_no_idle_time():
    """The server waits 3 ns a byte and step for what it has handed over before."""
    late = []
    for sample in study():
        scenario = sample.scenario
        phases = dict(sample.phases)
        phases["idle"] += 3e-9 * scenario.depth * scenario.broadcast_bytes
        late.append(dataclasses.replace(sample, phases=phases))
    model, scenario = fit_model(late), late[-1].scenario
    assert scenario.broadcast_bytes == 4_000_000
    drawn = model.sample_rounds(scenario, late[-1].participants)
    expected, _ = true_phases(scenario, late[-1].participants)
    expected["broadcast"] += 3e-9 * scenario.depth * 4_000_000
    assert model.phases(scenario, drawn) == pytest.approx(expected)


def test_what_was_not_varied_is_not_known():
    """Of one size of message no bandwidth follows; of few ranks, nothing per rank."""
    few = [s for s in study(most=4) if not s.case.startswith("size")]
    model = fit_model(few)
    assert {"L*D", "S*D"} <= set(model.parts["broadcast"].dropped)
    assert {"L*U", "S*U"} <= set(model.parts["reduce"].dropped)
    assert "P" in model.parts["consensus"].dropped
    assert "P" not in fit_model(study(most=8)).parts["consensus"].dropped


def test_what_shared_cores_cost_is_reported_separately():
    """Two cores: work takes as much longer, and each broadcast 2 ms a rank too many."""
    crowded = []
    for sample in study():
        crowd = max(0.0, sample.scenario.client_ranks / 2 - 1)
        phases = dict(sample.phases)
        phases["broadcast"] += 2e-3 * crowd
        scenario = dataclasses.replace(sample.scenario, oversubscription=crowd)
        known = scenario.workload.training_costs
        extra = [float(known[c].sum()) * 3e-4 * crowd for c in sample.participants]
        changed = dataclasses.replace(
            sample, scenario=scenario, phases=phases, work=sample.work + extra
        )
        crowded.append(changed)
    model = fit_model(crowded)
    broadcast, work = (model.parts[n].coefficients for n in ("broadcast", "work"))
    found = {name: value for name, value in broadcast.items() if value}
    assert found == pytest.approx(TRUE["broadcast"] | {"oversubscription": 2e-3})
    found = {name: value for name, value in work.items() if value}
    assert found == pytest.approx(TRUE["work"] | {"q*oversubscription": 3e-4})
    assert "P" in model.parts["consensus"].dropped
    free = crowded[0].scenario.on_ranks(64, 65)
    assert free.oversubscription == 0
    rounds = crowded[0].participants
    phases, _ = true_phases(free, rounds)
    got = model.phases(free, model.sample_rounds(free, rounds))
    assert got["broadcast"] == pytest.approx(phases["broadcast"])
    assert got["work"] == pytest.approx(phases["work"])
