"""Records of rounds that are torn, damaged or lost: what is sound is kept, and said."""

import json
import os
import shutil

import pytest

from fedapm_mpi.analysis.comparison import notes, read_runs
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.errors import DataError, FedAPMError, WriteError
from fedapm_mpi.studies.sweep.grid import Cell
from fedapm_mpi.studies.sweep.table import row_of
from fedapm_mpi.tasks.classification import Classification
from fedapm_mpi.tracking.records import (
    Records,
    encode_record,
    gaps,
    longest_increasing,
    parse_line,
)
from fedapm_mpi.tracking.run_directory import RunDirectory
from fedapm_mpi.tracking.summary import summarize_run
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils.text import format_ranges
from tests.support.processes.cli_runs import digest_of, experiment, rounds_of


def lines(*rounds, loss=0.5):
    return [
        encode_record({"round": t, "loss": loss, "accuracy": t / 100}) for t in rounds
    ]


def write(run, parts):
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    (run / "rounds.jsonl").write_bytes(b"".join(raw))
    return Records(run)


def rounds(reader):
    found = list(reader)
    assert [record["round"] for record in found] == list(reader.rounds)
    assert all("check" not in record for record in found)
    return list(reader.rounds)


DAMAGE = {
    "not-utf-8": b"\xff\xfe\n",
    "list": "[]\n",
    "object": "{}\n",
    "number": "17\n",
    "null": "null\n",
    "text": '"round"\n',
    "garbage": "@@@@@@@@\n",
    "nul": b"\0" * 500 + b"\n",
    "empty": "\n",
    "deep": "[" * 100_000 + "\n",
    "huge-integer": '{"round": ' + "9" * 5000 + "}\n",
    "half": '{"round": 4, "lo\n',
    "no-round": encode_record({"loss": 1.0}),
    "round-text": encode_record({"round": "4"}),
    "round-true": encode_record({"round": True}),
    "round-float": encode_record({"round": 4.0}),
    "round-negative": encode_record({"round": -4}),
    "round-list": encode_record({"round": [4]}),
    "round-far": encode_record({"round": 2**60}),
    "round-beyond": encode_record({"round": 2**70}),
    "loss-text": encode_record({"round": 4, "loss": "0.5"}),
    "loss-nan": encode_record({"round": 4, "loss": float("nan")}),
    "loss-infinite": encode_record({"round": 4, "loss": 1}).replace(
        '": 1,', '": 1e999,'
    ),
    "loss-huge": encode_record({"round": 4, "loss": 10**300}),
    "seconds-list": encode_record({"round": 4, "seconds": [1]}),
    "seconds-text": encode_record({"round": 4, "seconds": {"local": "1"}}),
    "no-check": '{"round": 4, "loss": 0.5}\n',
    "check-wrong": '{"round": 4, "loss": 0.5, "check": "00000000"}\n',
    "check-number": '{"round": 4, "loss": 0.5, "check": 12345678}\n',
}


@pytest.mark.parametrize("name", DAMAGE)
def test_records_on_both_sides_of_a_damaged_line_are_kept(tmp_path, name):
    sound = lines(0, 1, 2, 3, 5, 6)
    reader = write(tmp_path, [*sound[:4], DAMAGE[name], *sound[4:]])
    assert rounds(reader) == [0, 1, 2, 3, 5, 6]
    assert [list(one) for one in reader.missing()] == [[4]]
    *faults, lost = reader.notes()
    assert "lacks the records of rounds 4 (1 in all)" in lost
    assert len(faults) == 1
    assert "left out: 1" in faults[0]


def test_every_flipped_bit_of_a_line_is_noticed():
    raw = encode_record({"round": 12, "loss": 0.25, "participants": "0-3"}).encode()
    whole = parse_line(raw)
    assert whole.record == {"round": 12, "loss": 0.25, "participants": "0-3"}
    assert whole.checked
    for k in range(8 * (len(raw) - 1)):
        changed = bytearray(raw)
        changed[k // 8] ^= 1 << k % 8
        assert not parse_line(bytes(changed)).checked, changed


def test_a_line_that_is_being_written_is_no_fault(tmp_path):
    sound = lines(0, 1, 2, 3)
    for cut in range(1, len(sound[3]) - 1):
        reader = write(tmp_path, [*sound[:3], sound[3][:cut]])
        assert rounds(reader) == [0, 1, 2]
        assert reader.notes() == []
    assert rounds(write(tmp_path, [*sound[:3], sound[3][:-1]])) == [0, 1, 2, 3]


def test_a_line_that_changes_between_the_passes_is_left_out(tmp_path):
    reader = write(tmp_path, lines(0, 1, 2))
    write(tmp_path, lines(0, 7, 2))
    assert [record["round"] for record in reader] == [0, 2]


def test_of_many_lost_records_the_first_are_named(tmp_path):
    (note,) = write(tmp_path, lines(*range(0, 60, 2))).notes()
    reported = "1,3,5,7,9,11,13,15,17,19,... (29 in all)"
    assert f"lacks the records of rounds {reported}" in note


def test_records_twice_or_out_of_order_are_kept_once_and_in_order(tmp_path):
    reader = write(tmp_path, lines(0, 1, 2, 2, 3, 3, 4, 4, 1, 5))
    assert rounds(reader) == [0, 1, 2, 3, 4, 5]
    (note,) = reader.notes()
    assert "twice or out of order, left out: 4" in note


def test_a_wrong_round_of_an_older_version_does_not_cost_its_neighbours(tmp_path):
    """Without check values a digit that flipped shows by the order alone."""
    old = [f'{{"round": {t}}}\n' for t in (0, 1, 2, 70, 4, 5, 6)]
    reader = write(tmp_path, old)
    assert rounds(reader) == [0, 1, 2, 4, 5, 6]
    assert "lacks the records of rounds 3 (1 in all)" in reader.notes()[-1]


def test_going_on_gives_old_records_check_values(tmp_path):
    write(tmp_path, ['{"round": 0, "loss": 1.5}\n', '{"round": 1}\n{"round": 2}\n'])
    recorder = RunDirectory(tmp_path)
    assert recorder.truncate_after(1) == []
    recorder.add({"round": 2})
    raw = (tmp_path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    assert all(parse_line(one).checked for one in raw)
    assert list(recorder.records()) == [
        {"round": 0, "loss": 1.5}, {"round": 1}, {"round": 2},
    ]  # fmt: skip


def test_going_on_says_which_records_are_lost(tmp_path):
    write(tmp_path, [*lines(0, 1), b"\xff\n", *lines(5, 6, 7, 9)])
    recorder = RunDirectory(tmp_path)
    damaged, lost = recorder.truncate_after(8)
    assert "damaged lines, left out: 1 (line 3)" in damaged
    assert "lacks the records of rounds 2-4,8 (4 in all)" in lost
    assert rounds(Records(tmp_path)) == [0, 1, 5, 6, 7]
    assert recorder.last["round"] == 7
    assert recorder.truncate_after(-1) == []


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_something_else_by_the_name_is_one_sentence(tmp_path, kind):
    path = tmp_path / "rounds.jsonl"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    else:
        (os.mkdir if kind == "directory" else os.mkfifo)(path)
    with pytest.raises(WriteError, match="cannot read"):
        RunDirectory(tmp_path).truncate_after(3)
    with pytest.raises(DataError, match="is not a run directory"):
        Run.load(tmp_path)
    if kind != "pipe":
        with pytest.raises(WriteError, match="cannot write"):
            RunDirectory(tmp_path).add({"round": 0})


def test_gaps_spans_and_the_longest_rising_part():
    assert format_ranges(gaps([0, 1, 4, 5, 7], 9)) == "2-3,6,8-9"
    assert gaps([0, 1, 2], 2) == []
    assert format_ranges(gaps([], 3)) == "0-3"
    assert format_ranges(gaps([5, 6], 5)) == "0-4"
    assert longest_increasing([]) == []
    assert longest_increasing([3, 1, 2, 2, 9, 4]) == [1, 3, 5]
    assert longest_increasing(list(range(50))) == list(range(50))


def test_the_summary_says_over_which_rounds_it_is():
    kept = [t for t in range(31) if t not in (7, 25, 26, 30)]
    records = [{"round": t, "loss": 0.5, "accuracy": t / 100} for t in kept]
    summary = summarize_run(records, Classification().metric_set(), 30)
    assert summary["rounds"] == 30
    assert summary["evaluations"] == 26
    assert summary["missing_rounds"] == "7,25-26,30"
    assert summary["num_missing_rounds"] == 4
    assert summary["last_evaluated_round"] == 29
    assert summary["accuracy"]["last_ten_rounds"] == "18-24,27-29"
    assert summary["accuracy"]["mean_of_last_ten"] == pytest.approx(
        sum([*range(18, 25), 27, 28, 29]) / 1000
    )


@pytest.fixture(scope="module")
def runs(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("records")
    changes = {"evaluation": {"every": 1}, "checkpoint": {"every": 2, "keep": 2}}
    for rounds_, name in ((4, "four"), (6, "six")):
        config = experiment(toy["features"], rounds=rounds_, **changes)
        config = validate(config, "t")
        train(Serial(), config, directory=root / name, progress="none")
    return config, root


def tear(path):
    os.truncate(path, path.stat().st_size - 60)


def harm_line(number, new):
    def harm(path):
        raw = path.read_bytes().splitlines(keepends=True)
        raw[number] = new(raw[number])
        path.write_bytes(b"".join(raw))

    return harm


HARM = {
    "last-torn": (tear, "4"),
    "emptied": (lambda path: path.write_text(""), "0-4"),
    "deleted": (lambda path: path.unlink(), "0-4"),
    "digit": (harm_line(2, lambda raw: raw.replace(b'erage": ', b'erage": 1')), "2"),
    "not-utf-8": (harm_line(1, lambda raw: b"\xff" + raw), "1"),
    "garbage": (harm_line(3, lambda raw: b"{}\n[]\n"), "3"),
}


@pytest.mark.parametrize("name", HARM)
def test_a_run_continues_and_says_what_is_lost(runs, tmp_path, capsys, name):
    config, root = runs
    harm, lost = HARM[name]
    shutil.copytree(root / "four", tmp_path / "run")
    harm(tmp_path / "run" / "rounds.jsonl")
    run = {"directory": tmp_path / "run", "resume": True, "progress": "none"}
    assert train(Serial(), config, **run) == 0
    count = 5 if lost == "0-4" else 1
    printed = capsys.readouterr().out
    assert f"lacks the records of rounds {lost} ({count} in all)" in printed
    assert digest_of(tmp_path / "run") == digest_of(root / "six")
    wanted = [r for r in rounds_of(root / "six") if str(r["round"]) != lost]
    if lost == "0-4":
        wanted = [r for r in wanted if r["round"] > 4]
    assert rounds_of(tmp_path / "run") == wanted
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["missing_rounds"] == lost
    assert summary["num_missing_rounds"] == count
    assert summary["evaluations"] == len([r for r in wanted if r["round"] > 0])
    best = max(r["accuracy"] for r in wanted if r["round"] > 0)
    assert summary["accuracy"]["best"] == best


def test_reports_of_a_file_that_is_being_written(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = tmp_path / "run"
    shutil.copytree(runs[1] / "six", run)
    with (run / "rounds.jsonl").open("a") as file:
        file.write('{"round": 7, "partic')
    for words in (["report"], ["convergence", "--metric", "train_loss"]):
        assert cli.main([*words, str(run)]) == 0
        assert "note" not in capsys.readouterr().out
    tear(run / "rounds.jsonl")
    harm_line(3, lambda raw: b"\xff\n")(run / "rounds.jsonl")
    for words, lost in (
        (["report"], "3,6 (2 in"),
        (["convergence", "--metric", "drift"], "3,6 (2 in"),
    ):
        assert cli.main([*words, str(run)]) == 0
        assert f"lacks the records of rounds {lost}" in capsys.readouterr().out


def test_a_disk_that_fails_at_the_end_of_a_round_is_one_sentence(tmp_path, monkeypatch):
    recorder = RunDirectory(tmp_path)
    recorder.add({"round": 0})

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FedAPMError, match="Input/output error; check the file system"):
        recorder.sync()


def test_a_finished_run_without_records_is_not_one_that_has_not_begun(
    runs, tmp_path, capsys
):
    run = tmp_path / "run"
    shutil.copytree(runs[1] / "six", run)
    (run / "rounds.jsonl").write_text("")
    (one,) = read_runs([run])
    assert one.summary["rounds"] == 6
    assert one.summary["missing_rounds"] == "0-6"
    reported = "\n".join(notes([one]))
    assert "lacks the records of rounds 0-6 (7 in all)" in reported
    assert "not finished" not in reported
    row = row_of(Cell("run", {}, runs[0].plain(), run))
    assert (row["state"], row["rounds"], row["missing_rounds"]) == ("finished", 6, 7)
    assert row["digest"] == digest_of(run)
    assert row["accuracy_mean"] is None
    for harm in (lambda: None, (run / "rounds.jsonl").unlink):
        harm()
        assert read_runs([run])[0].summary["missing_rounds"] == "0-6"
        assert cli.main(["convergence", str(run)]) == 3
        reported = capsys.readouterr().err
        assert "lacks the records of rounds 0-6 (7 in all)" in reported
        assert "is not a run directory" not in reported


def test_a_run_that_stopped_by_its_rule_lacks_no_records(runs, tmp_path):
    loose = {"tolerance": {"absolute": 1e3, "relative": 1e3}}
    full = {"participation": {"name": "full"}}
    config = validate(runs[0].plain() | loose | full, "t")
    assert train(Serial(), config, directory=tmp_path / "run", progress="none") == 0
    done = len(rounds_of(tmp_path / "run")) - 1
    assert done < config.rounds
    row = row_of(Cell("run", {}, config.plain(), tmp_path / "run"))
    assert (row["state"], row["rounds"], row["missing_rounds"]) == ("finished", done, 0)
    (one,) = read_runs([tmp_path / "run"])
    assert (one.summary["rounds"], one.notes) == (done, [])
    assert "not finished" not in "".join(notes([one]))


def test_line_ends_of_another_system_do_not_hide_damage(tmp_path):
    """Such as of a folder that an editor or an archiver has converted."""
    sound = [one.replace("\n", "\r\n") for one in lines(0, 1, 2)]
    assert rounds(write(tmp_path, sound)) == [0, 1, 2]
    reader = write(tmp_path, [sound[0], sound[1].replace("0.", "1.", 1), sound[2]])
    assert rounds(reader) == [0, 2]
    assert "damaged lines, left out: 1 (line 2)" in reader.notes()[0]


def test_the_metrics_of_variants_are_numbers_by_name(tmp_path):
    kept = [{"client_copy": {"accuracy": 0.5, "auroc": None}}, {"client_copy": None}]
    damaged = [{"client_copy": 3}, {"before_fine_tuning": {"accuracy": "high"}}]
    parts = [encode_record({"round": t} | v) for t, v in enumerate(kept + damaged)]
    reader = write(tmp_path, parts)
    assert rounds(reader) == [0, 1]
    assert reader.faults == ["damaged lines, left out: 2 (line 3, 4)"]
