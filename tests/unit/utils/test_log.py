"""Notes, warnings and errors: where they are written, and that this never fails."""

import io
import logging
import sys

import pytest

from fedapm_mpi.comm.runtime import print_error
from fedapm_mpi.errors import DataError
from fedapm_mpi.utils import log
from fedapm_mpi.utils.log import get_logger, only_errors
from fedapm_mpi.utils.terminal import protected


class Writes(io.StringIO):
    """Keeps each write apart."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def write(self, text):
        self.texts.append(text)
        return len(text)


def streams(monkeypatch):
    """Replace the standard streams; not in a fixture, after which pytest does."""
    out, err = Writes(), Writes()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


def test_one_write_a_record_on_the_stream_of_its_level(monkeypatch):
    out, err = streams(monkeypatch)
    logger = get_logger("fedapm_mpi.some.module")
    logger.info("%s clients", 3)
    logger.warning("job 7: back into the queue")
    logger.error("100 %")
    assert out.texts == ["note: 3 clients\n"]
    assert err.texts == [
        "fedapm: job 7: back into the queue\n",
        "fedapm: error: 100 %\n",
    ]


def test_a_record_may_say_itself_what_it_is(monkeypatch):
    _, err = streams(monkeypatch)
    logger = get_logger("fedapm_mpi.cli.launch")
    logger.warning("%s", "mpiexec -n 3 %s", extra={"prefix": "+ "})
    assert err.texts == ["+ mpiexec -n 3 %s\n"]


def test_nothing_can_control_the_terminal(monkeypatch):
    out, _ = streams(monkeypatch)
    get_logger("data_prep.pipeline").info("%s", "\x1b[2J\nnext")
    assert out.texts == ["note: \\x1b[2J\nnext\n"]


def test_an_error_with_its_traceback(monkeypatch):
    _, err = streams(monkeypatch)
    monkeypatch.setenv("FEDAPM_DEBUG", "1")
    print_error(DataError("no shard"), "rank 1 of 2: ")
    (text,) = err.texts
    assert text.endswith("fedapm: error: rank 1 of 2: no shard\n")
    assert text.count("DataError") == 1


def test_other_ranks_report_errors_alone(monkeypatch):
    out, err = streams(monkeypatch)
    monkeypatch.setattr(log, "_handler", log.TerminalHandler())
    monkeypatch.setattr(logging.getLogger(log.ROOT), "handlers", [log._handler])
    only_errors()
    logger = get_logger("fedapm_mpi")
    logger.info("text")
    logger.warning("text")
    logger.error("text")
    assert (out.texts, err.texts) == ([], ["fedapm: error: text\n"])


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "make", [lambda: open("/dev/full", "w"), closed, lambda: None]  # noqa: PTH123, SIM115
)  # fmt: skip
def test_a_stream_that_cannot_be_written_is_no_failure(monkeypatch, make):
    stream, seen = make(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", seen)
    with protected():
        for _ in range(3):
            get_logger("fedapm_mpi").info("text")
        get_logger("fedapm_mpi").error("text")
    assert seen.getvalue() == "fedapm: error: text\n"
    if stream is not None:
        stream.close()
