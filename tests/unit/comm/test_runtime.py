"""How a job opens and ends, on a process that is alone or acts as one of two."""

import time

import pytest

from fedapm_mpi.comm import Serial, runtime
from fedapm_mpi.errors import ConfigError, DataError, FedAPMError
from fedapm_mpi.plugins import errors as plugin_errors


@pytest.fixture(autouse=True)
def _as_in_a_new_process(monkeypatch):
    """Forget plug-ins of earlier tests, below whose folder this file lies."""
    monkeypatch.setattr(plugin_errors, "LOADED", [])
    monkeypatch.setattr(runtime, "only_errors", lambda: None)  # for good


class Aborted(Exception):
    pass


class Two(Serial):
    """One of two ranks, as far as endings go."""

    size = 2

    def __init__(self, rank):
        super().__init__()
        self.rank = rank

    def abort(self, exit_code):
        raise Aborted(exit_code)


@pytest.fixture
def rank(monkeypatch):
    """Return a function that makes this process a rank of two."""

    def act(number):
        monkeypatch.setattr(runtime, "open_communicator", lambda: Two(number))

    monkeypatch.delenv("SLURM_STEP_ID", raising=False)
    return act


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(runtime, "open_communicator", Serial)


def fail(error):
    def body(comm):
        raise error

    return body


def test_the_exit_code_of_the_body(alone):
    assert runtime.on_ranks(lambda comm: 0) == 0
    assert runtime.on_ranks(lambda comm: 75) == 75


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError("no such key"), 2, "fedapm: error: no such key\n"),
        (DataError("no shard"), 3, "fedapm: error: no shard\n"),
        (ZeroDivisionError("oh"), 70, "fedapm: error: internal error: ZeroDivisionErr"),
    ],
)
def test_an_error_of_one_process_is_a_sentence_and_a_code(
    alone, capsys, error, code, words
):
    assert runtime.on_ranks(fail(error)) == code
    assert capsys.readouterr().err.startswith(words)


def test_an_exit_passes_where_no_rank_waits(alone):
    with pytest.raises(SystemExit):
        runtime.on_ranks(fail(SystemExit(5)))


@pytest.mark.parametrize("number", [0, 1])
def test_an_agreed_error_is_printed_once_and_nothing_is_aborted(rank, capsys, number):
    rank(number)
    error = DataError("no shard")
    error.agreed = True
    assert runtime.on_ranks(fail(error)) == 3
    printed = capsys.readouterr().err
    assert printed == ("fedapm: error: no shard\n" if number == 0 else "")


@pytest.mark.parametrize("error", [DataError("no shard"), SystemExit(0), KeyError("x")])
def test_any_other_error_ends_the_whole_job(rank, capsys, monkeypatch, error):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    rank(1)
    with pytest.raises(Aborted) as ended:
        runtime.on_ranks(fail(error))
    assert ended.value.args == ((3 if isinstance(error, DataError) else 70),)
    assert capsys.readouterr().err.startswith("fedapm: error: rank 1 of 2: ")


def test_ranks_that_cannot_see_each_other(monkeypatch, capsys):
    def refuse():
        msg = "each is alone"
        raise ConfigError(msg)

    monkeypatch.setattr(runtime, "open_communicator", refuse)
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert runtime.on_ranks(lambda comm: 0) == 2
    assert capsys.readouterr().err == "fedapm: error: each is alone\n"
    assert slept == []
    monkeypatch.setenv("PMI_RANK", "1")
    assert runtime.on_ranks(lambda comm: 0) == 2
    assert capsys.readouterr().err == ""
    assert slept == [runtime.ABORT_PATIENCE]
    heard = []
    assert runtime.on_ranks(lambda comm: 0, heard.append) == 2
    assert [str(error) for error in heard] == ["each is alone"]


def test_what_the_server_reads_reaches_every_rank():
    assert runtime.run_on_server(Serial(), lambda: "read") == "read"

    def leave():
        raise SystemExit(2)

    def refuse():
        raise FedAPMError

    assert runtime.run_on_server(Serial(), leave) == 2
    with pytest.raises(FedAPMError):
        runtime.run_on_server(Serial(), refuse)
