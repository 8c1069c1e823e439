"""Functions that stop where they ask for something."""

import threading

import pytest

from fedapm_mpi.training.lockstep import Abandoned, Lockstep


def test_all_ask_before_any_is_served():
    seen = []

    def function(name, times):
        def ask_often(ask):
            for k in range(times):
                seen.append(f"{name}{k}")
                ask((name, k))
            return name

        return ask_often

    def serve(asked):
        seen.append([one.request for one in asked])

    lockstep = Lockstep()
    for _ in range(2):  # the second time on the same threads
        seen.clear()
        found = lockstep.run(
            [function("a", 2), function("b", 0), function("c", 1)], serve
        )
        assert found == ["a", "b", "c"]
        assert seen == ["a0", "c0", [("a", 0), ("c", 0)], "a1", [("a", 1)]]


def test_threads_are_used_again():
    lockstep, threads = Lockstep(), []
    for _ in range(3):
        lockstep.run([lambda ask: threads.append(threading.get_ident())] * 2, list)
    assert len(set(threads)) == 2


def test_errors_are_those_of_their_functions():
    def fails(ask):
        ask("fine")
        raise ValueError("own")

    def refused(ask):
        ask("bad")

    def serve(asked):
        for one in asked:
            if one.request == "bad":
                one.error = KeyError("served")

    found = Lockstep().run([fails, refused, lambda ask: 3], serve)
    assert [type(one) for one in found] == [ValueError, KeyError, int]


def test_what_serving_raises_ends_all():
    ended = []

    def waits(ask):
        try:
            ask(1)
        except Abandoned:
            ended.append(threading.get_ident())
            raise

    def serve(asked):
        raise RuntimeError("no")

    lockstep = Lockstep()
    with pytest.raises(RuntimeError, match="no"):
        lockstep.run([waits, waits, lambda ask: 1], serve)
    assert len(set(ended)) == 2
    assert lockstep.run([lambda ask: 5], serve) == [5]


def test_an_interrupt_comes_through():
    def interrupt(asked):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Lockstep().run([lambda ask: ask(1)], interrupt)
