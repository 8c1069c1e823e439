"""What a rank prints before it ends the job is read before the job ends."""

import contextlib
import io
import os
import pty
import threading
import time

import pytest

from fedapm_mpi.comm import last_words


@pytest.fixture
def pipe():
    """Return the two ends of a pipe, the second as a stream of text."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream:  # noqa: PTH123
        yield reading, stream
    os.close(reading)


def waited(stdout, stderr, limit=last_words.LIMIT_SECONDS):
    """Return for how many seconds it waits with these streams."""
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        start = time.monotonic()
        last_words.wait_until_read(limit)
        return time.monotonic() - start


@pytest.mark.parametrize("other", [None, io.StringIO()])
def test_it_returns_once_a_late_reader_has_all(pipe, other):
    reading, stream = pipe
    stream.write("an error")  # not flushed
    found = []
    late = threading.Timer(0.3, lambda: found.append(os.read(reading, 100)))
    late.start()
    assert 0.25 < waited(other, stream) < 3
    late.join()
    assert found == [b"an error"]


def test_stdout_is_waited_for_too(pipe):
    stream = pipe[1]
    stream.write("a line")
    assert 0.2 <= waited(stream, None, limit=0.2) < 2


def test_it_gives_up_on_a_reader_that_reads_nothing(pipe):
    stream = pipe[1]
    stream.write("an error")
    assert 0.2 <= waited(stream, stream, limit=0.2) < 0.35


def test_nothing_printed_is_nothing_to_wait_for(pipe):
    assert waited(pipe[1], pipe[1]) < 0.2


def test_what_is_typed_at_a_terminal_is_not_waited_for():
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"typed ahead\n")
    with open(terminal, "w") as stream:  # noqa: PTH123
        assert waited(stream, stream) < 0.2
    os.close(keyboard)


def test_a_closed_stream_is_passed_over(pipe):
    closed = io.StringIO()
    closed.close()
    stream = pipe[1]
    stream.write("an error")
    assert 0.2 <= waited(closed, stream, limit=0.2) < 2


def test_a_reader_that_is_gone_is_not_waited_for():
    reading, writing = os.pipe()
    os.close(reading)
    stream = open(writing, "w")  # noqa: PTH123, SIM115
    stream.write("an error")
    assert waited(stream, stream) < 0.2
    with contextlib.suppress(BrokenPipeError):
        stream.close()
