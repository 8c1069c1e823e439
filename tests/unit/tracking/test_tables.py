"""The tables of a run: its parameters, and its last evaluation."""

from fedapm_mpi.engine.partitioned_model import ParameterInfo
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.summary import summarize_run
from fedapm_mpi.tracking.tables import print_parameter_table, print_summary


def test_parameters_with_the_sizes_of_their_blocks(capsys):
    fields = ParameterInfo._fields
    values = {"shape": (2, 3), "size": 6, "clients": 4}

    def row(name, block):
        known = {**dict.fromkeys(fields, ""), **values, "name": name, "block": block}
        return ParameterInfo(**{key: known[key] for key in fields})

    rows = [row("body.weight", "shared"), row("head.weight", "personal")]
    rows += [row(f"b{k}", "buffer") for k in range(3)]
    print_parameter_table(rows, longest=4)
    shown = capsys.readouterr().out
    assert "2×3" in shown
    assert "head.weight" in shown
    assert "b2" not in shown
    assert "… 1 more" in shown
    assert "shared: 6 of 12 (50.0%)" in shown
    assert "personal: 6 of 12 (50.0%)" in shown


def test_the_last_evaluation_with_its_clients(capsys):
    metrics = Classification().metric_set()
    record = {"round": 2, "num_clients": 9, "clients": 8, "worst_decile_clients": 1}
    for k, metric in enumerate(metrics.names):
        record |= {metric: k / 8, f"{metric}_worst_decile": 0.0625}
    summary = summarize_run([record], metrics)
    print_summary(summary, "val", metrics.names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "Clients' own validation parts after round 2"
    assert "clients in it" in " ".join(lines)
    (accuracy,) = (line for line in lines if "accuracy" in line)
    assert "8 of 9" in accuracy
    assert "0.0625" in accuracy


def test_each_variant_has_a_table(capsys):
    metrics = Classification().metric_set()
    values = dict.fromkeys(metrics.names, 0.25)
    record = {"round": 2, "num_clients": 9, "clients": 8, **values}
    record["client_copy"] = dict.fromkeys(metrics.names, 0.75)
    print_summary(summarize_run([record], metrics), "test", metrics.names)
    first, second = capsys.readouterr().out.split(": own copies of the shared block")
    assert "Clients' own test parts after round 2" in first
    assert "0.2500" in first
    assert "0.7500" not in first
    assert "0.7500" in second
    assert "8 of 9" in second
