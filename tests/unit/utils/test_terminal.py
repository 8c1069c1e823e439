"""Output that cannot be written does not end a run, and names cannot control it."""

import contextlib
import dataclasses
import io
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from fedapm_mpi.cli import main as cli
from fedapm_mpi.comm import Serial
from fedapm_mpi.config.loader import validate
from fedapm_mpi.data.manifest import MANIFEST, encode_manifest, read_manifest
from fedapm_mpi.training.runner import train
from fedapm_mpi.utils import terminal
from fedapm_mpi.utils.terminal import Stream, printable, protected
from tests.support.processes.cli_runs import (
    digest_of,
    experiment,
    fedapm,
    user_path,
    write_config,
)

SPECIAL = "3×2 – … ρ α ≤ ━ é 中"


def text_file(raw, encoding="utf-8", **options):
    return io.TextIOWrapper(raw, encoding=encoding, **options)


def to_bytes(encoding):
    """Return a stream and the bytes that come of what is written to it."""
    raw = io.BytesIO()
    return Stream(text_file(raw, encoding)), raw


@pytest.mark.parametrize(
    ("encoding", "seen"),
    [
        ("utf-8", SPECIAL),
        ("ascii", r"3x2 - ... rho alpha <= - \xe9 \u4e2d"),
        ("latin-1", r"3×2 - ... rho alpha <= - é \u4e2d"),
        ("cp437", r"3x2 - ... rho α ≤ - é \u4e2d"),
    ],
)
def test_characters_that_an_encoding_lacks_have_look_alikes(encoding, seen):
    stream, raw = to_bytes(encoding)
    stream.write(SPECIAL)
    stream.flush()
    assert raw.getvalue().decode(encoding) == seen


def test_file_names_that_are_not_utf8_can_be_shown():
    stream, raw = to_bytes("utf-8")
    stream.write(os.fsdecode(b"run-\xff"))
    stream.flush()
    assert raw.getvalue() == rb"run-\udcff"
    assert stream.error is None


def test_a_table_in_ascii(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", text_file(raw, "ascii"))
    terminal.print_table("Shapes – all", ("name", "shape"), [("a…", "2×3")])
    shown = raw.getvalue().decode("ascii")
    assert "Shapes - all" in shown
    assert "2x3" in shown
    assert "a..." in shown
    assert "\\u" not in shown


def test_a_line_is_written_once_it_is_complete():
    stream, raw = to_bytes("utf-8")
    stream.write("half")
    assert raw.getvalue() == b""
    stream.write(" a line\nmore")
    assert raw.getvalue() == b"half a line\nmore"
    stream.write("x" * (terminal.BLOCK_BYTES + 1))
    assert raw.getvalue().endswith(b"x")


@pytest.mark.parametrize("close", [True, False])
def test_what_follows_the_first_failure_is_dropped(close):
    if close:
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open("/dev/full", os.O_WRONLY)
    under = text_file(io.FileIO(write, "w"))
    stream = Stream(under)
    for _ in range(3):
        assert stream.write("line\n") == 5
        stream.flush()
    assert isinstance(stream.error, BrokenPipeError if close else OSError)
    under.close()  # nothing is left in the buffers, whose flush would raise


def test_a_closed_stream_and_none():
    closed = io.StringIO()
    closed.close()
    for under in (closed, None):
        stream = Stream(under)
        stream.write("text")
        stream.flush()
        assert stream.error is not None
        assert not stream.isatty()


def test_a_full_pipe_that_does_not_block_holds_up_only_once(monkeypatch):
    monkeypatch.setattr(terminal, "FULL_PIPE_SECONDS", 0.2)
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    under = text_file(io.FileIO(write, "w"))
    stream = Stream(under)
    begin = time.monotonic()
    for _ in range(20):
        stream.write("dropped\n")
        stream.flush()
    assert 0.2 <= time.monotonic() - begin < 0.4
    while len(os.read(read, 2**20)) == 2**20:
        pass
    stream.write("seen\n")  # there is room again
    stream.flush()
    assert os.read(read, 100) == b"seen\n"
    assert stream.error is None
    under.close()
    os.close(read)


def test_a_slow_reader_gets_everything():
    read, write = os.pipe()
    os.set_blocking(write, False)
    got = []

    def drain():
        while part := os.read(read, 5000):
            got.append(part)
            time.sleep(0.002)

    reader = threading.Thread(target=drain)
    reader.start()
    under = text_file(io.FileIO(write, "w"))
    stream = Stream(under)
    text = "".join(f"line {k}\n" for k in range(20_000))
    stream.write(text)
    stream.flush()
    under.close()
    reader.join()
    os.close(read)
    assert b"".join(got).decode() == text


# --- runs


def config_of(data):
    return experiment(data, evaluation={"every": 1})


@pytest.fixture(scope="module")
def digest(toy, tmp_path_factory):
    run = tmp_path_factory.mktemp("terminal") / "run"
    assert (
        train(Serial(), validate(config_of(toy["features"]), "t"), directory=run) == 0
    )
    return digest_of(run)


def closed_pipe():
    read, write = os.pipe()
    os.close(read)
    return io.FileIO(write, "w")


OUTPUTS = {
    "ascii": lambda: text_file(io.BytesIO(), "ascii"),
    "full": lambda: text_file(io.FileIO("/dev/full", "w")),
    "closed pipe": lambda: text_file(closed_pipe()),
    "none": lambda: None,
}


@pytest.mark.parametrize(
    ("name", "progress"),
    [*((name, "lines") for name in OUTPUTS), ("ascii", "live"), ("full", "live")],
)
def test_a_run_is_worth_more_than_its_output(
    toy, tmp_path, monkeypatch, digest, name, progress
):
    run = tmp_path / "run"
    config = validate(config_of(toy["features"]), "test")
    errors = io.StringIO()
    output = OUTPUTS[name]()
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", errors)
    with protected():
        assert train(Serial(), config, directory=run, progress=progress) == 0
    if output is not None:
        output.close()
    assert digest_of(run) == digest
    assert len((run / "rounds.jsonl").read_text().splitlines()) == 4
    printed = errors.getvalue()
    if name == "ascii":
        assert printed == ""
    else:
        assert printed.count("cannot write to standard output") == 1
        assert "the run continues without it" in printed


def test_the_program_ends_well_without_any_output(toy, tmp_path, digest):
    """Closed descriptors are not taken by files of the run, and the exit code is 0."""
    path = write_config(tmp_path / "a.yaml", config_of(toy["features"]))
    words = [sys.executable, *fedapm("train", path, "--run-dir", tmp_path / "run")]
    script = 'exec "$@" <&- >&- 2>&-'
    ended = subprocess.run(
        ["sh", "-c", script, "sh", *words], timeout=100, check=False,
        env=os.environ | user_path(),
    )  # fmt: skip
    assert ended.returncode == 0
    assert digest_of(tmp_path / "run") == digest


def test_the_program_ends_well_with_a_closed_pipe(toy, tmp_path, digest):
    """The interpreter's last flush does not fail either, which would be code 120."""
    path = write_config(tmp_path / "a.yaml", config_of(toy["features"]))
    words = [sys.executable, *fedapm("train", path, "--run-dir", tmp_path / "run")]
    with closed_pipe() as gone:
        ended = subprocess.run(
            words, stdout=gone, stderr=subprocess.PIPE, timeout=100, check=False,
            text=True, env=os.environ | user_path(),
        )  # fmt: skip
    assert ended.returncode == 0
    assert ended.stderr == (
        "fedapm: note: cannot write to standard output (Broken pipe); the run "
        "continues without it\n"
    )
    assert digest_of(tmp_path / "run") == digest


def test_commands_whose_result_is_printed_fail_where_it_is_not(
    toy, monkeypatch, capsys
):
    words = ["inspect", str(toy["features"])]
    with text_file(io.FileIO("/dev/full", "w")) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(words) == 70
    assert capsys.readouterr().err == (
        "fedapm: error: cannot write to standard output: No space left on device\n"
    )
    with text_file(closed_pipe()) as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert cli.main(words) == 70
    assert capsys.readouterr().err == ""  # head has seen enough, and knows it


# --- names


@pytest.mark.parametrize(
    "name", ["[bold]x[/bold]", "[/]", "[red", ":smile:", "a[/b]c", "\\[x]"]
)
def test_names_are_shown_as_they_are(name, capsys):
    terminal.print_table(name, (name, "n"), [(name, 1)])
    terminal.echo(name)
    shown = capsys.readouterr().out
    assert shown.count(name) == 4


def test_names_cannot_control_the_terminal(capsys):
    evil = "\x1b[2J\x07\r\u202ex\udcff\x9b"
    seen = r"\x1b[2J\x07\r\u202ex\udcff\x9b"
    assert printable(evil) == seen
    assert printable("a\nb\t", lines=True) == "a\nb\t"
    assert printable("a\nb") == r"a\nb"
    assert printable("é中😀 می‌خواهم") == "é中😀 می‌خواهم"
    terminal.print_table("t", ("name",), [(evil,)])
    terminal.echo(evil)
    shown = capsys.readouterr()
    assert shown.out.count(seen) == 2
    assert "\x1b" not in shown.out
    assert cli.main(["inspect", "\x1b[2Jnowhere"]) == 3
    assert r"\x1b[2Jnowhere" in capsys.readouterr().err


def test_clients_of_a_hostile_data_set_are_inspected(toy, tmp_path, capsys):
    folder = tmp_path / "data"
    shutil.copytree(toy["features"], folder)
    manifest = read_manifest(folder)
    names = ("[/]\x1b[2J", *manifest.client_names[1:])
    hostile = dataclasses.replace(manifest, client_names=names)
    (folder / MANIFEST).write_bytes(encode_manifest(hostile))
    assert cli.main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert r"[/]\x1b[2J" in shown
    assert "\x1b" not in shown


def test_numbers_and_long_names_in_tables(capsys):
    terminal.print_table(
        "t", ("a", "b"), [(float("nan"), 1234567), (None, 0.5), (True, "x")]
    )
    shown = capsys.readouterr().out
    assert "1,234,567" in shown
    assert "nan" not in shown
    assert shown.count("–") >= 2
