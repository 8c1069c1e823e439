"""Speed-up, efficiency and the serial fraction; pure functions."""

from collections.abc import Mapping
from typing import NamedTuple

from fedapm_mpi.studies.scaling.statistics import Band, band

Seconds = Mapping[int, Mapping[int, float]]
"""Of each number of client ranks, the seconds a round of each repetition."""


class Scaled(NamedTuple):
    """How one number of client ranks compares with the least of a study."""

    speed_up: Band
    """How many times as much is done in the same time."""

    efficiency: Band
    """Speed-up over the ranks that it took."""

    serial: float | None
    """Karp and Flatt's serial fraction; only where the work stays the same."""


def strong(seconds: Seconds) -> dict[int, Scaled]:
    """Compare ranks that share the same work, repetition by repetition.

    With T of the least number of client ranks, p0, the speed-up on p is p0 T(p0)/T(p)
    and the efficiency that over p. Points of a repetition are run close to each other,
    so ratios are taken within it.
    """
    least = min(seconds)
    found = {}
    for p in sorted(seconds):
        gains = [least * ratio for ratio in _ratios(seconds, p)]
        serial = None
        if p > least and gains:
            mean = sum(gains) / len(gains)
            serial = karp_flatt(mean / least, p / least)
        speed = band(gains)
        found[p] = Scaled(speed, Band(*(value / p for value in speed)), serial)
    return found


def weak(seconds: Seconds) -> dict[int, Scaled]:
    """Compare ranks that each have the same work: the efficiency is T(p0)/T(p)."""
    found = {}
    for p in sorted(seconds):
        efficiency = band(_ratios(seconds, p))
        found[p] = Scaled(Band(*(value * p for value in efficiency)), efficiency, None)
    return found


def karp_flatt(speed_up: float, ranks: float) -> float:
    """Return the serial fraction that a speed-up amounts to.

    (1/S - 1/p) / (1 - 1/p), Karp and Flatt, Measuring Parallel Processor Performance,
    Communications of the ACM 33 (1990). One that grows with p is no serial part, but
    cost of running on many ranks.
    """
    return (1 / speed_up - 1 / ranks) / (1 - 1 / ranks)


def _ratios(seconds: Seconds, p: int) -> list[float]:
    least = seconds[min(seconds)]
    return [least[k] / t for k, t in sorted(seconds[p].items()) if k in least]
