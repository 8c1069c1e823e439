r"""Convergence rate of a metric: which of three regimes it shows.

Theorem 3 of FedAPM (arXiv 2506.04672) knows three for a gap :math:`e_t \to 0`, by the
exponent :math:`\theta` of the Kurdyka-Lojasiewicz inequality:

* **finite**, :math:`\theta = 0`: 0 after finitely many rounds;
* **linear**, :math:`0 < \theta \le 1/2`: :math:`e_t \sim C q^t`;
* **sublinear**, :math:`1/2 < \theta < 1`: :math:`e_t \sim C (t + s)^{-p}`, where the
  theorem has :math:`p = 1/(2\theta - 1)` for the Lyapunov function.

`fit_rate` distinguishes them in five steps.

1. *Finite*: the gap falls to 0, or to rounding, far faster than it did before.
2. *Floor*: rounds that sit at rounding, or on any level without trend far below what
   came before, are left out at the end.
3. *Fits*: log e_t by least squares as a line in t, and as one in log(t + s) whose s is
   searched and whose p is at most `_line_fits.MAX_SLOPE`. An unknown limit is searched
   with them, by the likelihood under multiplicative noise.
4. *Transient*: of many starts, that is kept for which the rate of the better fit has
   the smallest standard error; both are judged on the same rounds.
5. *Judgement*: the difference of their BIC. Its number of points allows for the
   autocorrelation of misfits, which are otherwise far from independent.
"""

from collections.abc import Sequence
from math import exp, isfinite, log, nan
from typing import Any, Literal, NamedTuple

import numpy as np

from fedapm_mpi.analysis._line_fits import (
    MAX_SLOPE,
    MIN_POINTS,
    Array,
    Pair,
    fit_pair,
    start_of_floor,
)

Kind = Literal["finite", "linear", "sublinear", "undecided"]

MAX_POINTS = 2000
"""Of more measured rounds, evenly spaced ones are fitted."""

MIN_STRETCH = 1.5
"""By what factor t + s must grow over the rounds that are fitted: over less, the end of
a transient before a linear rate looks like a power law with a large s."""

STRONG_EVIDENCE = 6.0
"""Difference of BIC that decides: strong evidence (Kass and Raftery, JASA 1995)."""

ROUNDING_LIMIT = 1e-14
"""What counts as 0: relative to the largest gap and, with a limit, to the values."""

STALL_RATIO = 1e-5
"""A gap that settles above this, relative to the largest, does not tend to 0; rounding
of single precision is below it."""


class Rate(NamedTuple):
    """Result of `fit_rate`; a number that does not apply is NaN."""

    kind: Kind
    factor: float = nan
    """Linear: q, by which the gap is multiplied each round."""

    exponent: float = nan
    """Sublinear: p."""

    shift: float = nan
    """Sublinear: s, in rounds."""

    reached: float = nan
    """Finite: the first measured round at the limit."""

    limit: float = nan
    """The limit that gaps were taken from: 0, the one given, or the estimate."""

    points: int = 0
    """Measured rounds that were fitted."""

    first_round: float = nan
    """The first of them."""

    last_round: float = nan
    """The last of them."""

    misfit_linear: float = nan
    """Root mean square of log e_t minus its linear fit."""

    misfit_sublinear: float = nan
    """The same of the sublinear fit."""

    bic_difference: float = nan
    """BIC of the linear fit minus that of the sublinear one: below 0 for linear."""

    reason: str = ""
    """Undecided: why."""

    def describe(self) -> str:
        """Return one sentence with the regime and its numbers."""
        if self.kind == "finite":
            return f"finite: at its limit {self.limit:.6g} from round {self.reached:g}"
        text = {
            "linear": f"the gap is multiplied by {self.factor:.6g} each round",
            "sublinear": f"the gap falls as (t{self.shift:+.3g})^-{self.exponent:.4g}",
            "undecided": self.reason,
        }[self.kind]
        if not self.points:
            return f"{self.kind}: {text}"
        return (
            f"{self.kind}: {text} ({self.points} points of rounds {self.first_round:g} "
            f"to {self.last_round:g}, log misfit {self.misfit_linear:.2g} linear and "
            f"{self.misfit_sublinear:.2g} sublinear, BIC difference "
            f"{self.bic_difference:+.3g}, limit {self.limit:.6g})"
        )


def fit_rate(
    values: Sequence[Any],
    rounds: Sequence[Any] | None = None,
    limit: float | Literal["estimate"] | None = None,
) -> Rate:
    """Return the regime that a sequence shows, and its rate.

    Parameters
    ----------
    values : (n,)
        The value of each round; None, NaN and infinity stand for "not measured".
    rounds : (n,), optional
        Whole and ascending; 0, 1, 2, ... if left out. Some may be missing.
    limit
        Limit of the values: None for 0, as of residuals; a number; or "estimate" for an
        objective, which then must approach it from one side, up to rounding. The gap is
        the distance from it.

    Returns
    -------
    Rate
        Of kind "undecided", with the reason, if the data do not decide: too few
        points, a gap that has not halved, or two fits that are about as good.

    Raises
    ------
    ValueError
        If these are not numbers, not of one length, or rounds do not ascend.
    """
    t, v = _measured(values, rounds)
    known = 0.0 if limit is None or limit == "estimate" else _number(limit)
    if len(v) < 2:
        return _undecided(f"{len(v)} of {len(values)} rounds were measured")
    # A power of two, so that the scaling is exact; beyond it nothing can overflow.
    power = int(np.frexp(max(np.abs(v).max(), abs(known)))[1])
    v, known = np.ldexp(v, -power), float(np.ldexp(known, -power))
    floor = 0.0 if limit is None else ROUNDING_LIMIT * max(np.abs(v).max(), abs(known))
    if limit == "estimate":
        last = v[-max(3, len(v) // 20) :]
        if len(v) < 3 or np.ptp(last) > floor:
            half = len(v) // 2
            sign = 1.0 if np.median(v[:half]) >= np.median(v[half:]) else -1.0
            v *= sign
            end = start_of_floor(t, v - v.min())
            return _judge(t[:end], v[:end], None, sign, power)
        known = float(np.median(last))  # at rest
    gap = np.abs(v - known)
    reached = _reached(t, gap, floor)
    if reached is not None:
        return Rate("finite", reached=reached, limit=float(np.ldexp(known, power)))
    if (gap <= 4 * floor).any() and floor:
        gap = gap[: int(np.argmax(gap <= 4 * floor))]
    t, gap = t[: len(gap)][gap > 0], gap[gap > 0]
    end = start_of_floor(t, gap)
    level = float(np.median(gap[end:])) if end < len(gap) else 0.0
    if level and level > STALL_RATIO * gap.max():
        level = float(np.ldexp(level, power))
        return _undecided(f"the gap rests at {level:.3g} from round {t[end]:g} on")
    return _judge(t[:end], gap[:end], known, 1.0, power)


def _measured(
    values: Sequence[Any], rounds: Sequence[Any] | None
) -> tuple[Array, Array]:
    try:
        v = np.array(list(values), dtype=np.float64)
        order = np.arange(len(v)) if rounds is None else list(rounds)
        t = np.array(order, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"values and rounds must be lists of numbers ({error})"
        raise ValueError(msg) from error
    if v.ndim != 1 or t.shape != v.shape:
        msg = f"values and rounds must be lists of one length, not {v.shape}, {t.shape}"
        raise ValueError(msg)
    whole = bool((np.abs(t) < 2**53).all() and (t == np.floor(t)).all())
    if not whole or (np.diff(t) <= 0).any():
        msg = "rounds must be whole and ascend; are records doubled or out of order?"
        raise ValueError(msg)
    known = np.isfinite(v)
    return t[known], v[known]


def _number(limit: Any) -> float:
    if isinstance(limit, str) or not isfinite(limit):
        msg = f'limit must be a finite number, "estimate" or None, not {limit!r}'
        raise ValueError(msg)
    return float(limit)


def _reached(t: Array, gap: Array, floor: float) -> float | None:
    """Return the round from which the gap is 0, if it fell there in one leap.

    That step must be thrice as fast as any of the five before or after, and by a
    further factor of a thousand: a linear rate comes to rounding at its own pace.
    """
    largest = float(gap.max())
    above = np.flatnonzero(gap > max(floor, ROUNDING_LIMIT * largest))
    if not len(above):
        return float(t[0])
    k = int(above[-1])
    if len(gap) - k - 1 < 2:
        return None
    leap = log(gap[k] / max(float(gap[k + 1]), floor, 1e-16 * largest))
    after = k + 1 + np.flatnonzero(gap[k + 1 :] > floor)[:6]
    falls = [-np.diff(np.log(gap[s])) / np.diff(t[s]) for s in (above[-6:], after)]
    pace = float(np.concatenate([*falls, [0.0]]).max())
    return float(t[k + 1]) if leap > 3 * pace * (t[k + 1] - t[k]) + log(1e3) else None


def _judge(t: Array, v: Array, known: float | None, sign: float, power: int) -> Rate:
    """Choose the tail, fit both candidates to it, and weigh them.

    `v` holds gaps, or, where the limit is not `known`, `sign` times the values; both
    are to be multiplied by two to the `power`.
    """
    n = len(t)
    if n < MIN_POINTS:
        return _undecided(f"only {n} rounds have a gap above 0 and above any floor")
    if n > MAX_POINTS:
        thin = np.linspace(0, n - 1, MAX_POINTS).astype(int)
        t, v, n = t[thin], v[thin], MAX_POINTS
    starts = {n * k // 20 for k in range(13)}
    starts |= {2**k for k in range(n.bit_length()) if 2**k < n / 2}
    pairs = {
        start: fit_pair(t[start:], v[start:], known is not None)
        for start in sorted(starts)
        if n - start >= MIN_POINTS and np.ptp(v[start:]) > 0
    }
    if not pairs:
        return _undecided("the values do not change")
    start = next(iter(pairs))
    for other, pair in pairs.items():
        if pair.better.error < 0.9 * pairs[start].better.error:
            start = other
    straight, bent, difference = pair = pairs[start]
    depth = pair.better.depth
    limit = sign * (float(v[start:].min()) - depth) if known is None else known
    gaps = v if known is not None else v - v[start:].min() + depth
    found = Rate(
        "undecided",
        limit=float(np.ldexp(limit, power)),
        points=n - start,
        first_round=float(t[start]),
        last_round=float(t[-1]),
        misfit_linear=straight.rms,
        misfit_sublinear=bent.rms,
        bic_difference=difference,
        reason=_doubt(pair, gaps, float(t[-1] - t[start])),
    )
    if found.reason:
        return found
    if difference < 0:
        return found._replace(kind="linear", factor=exp(straight.slope))
    shift = bent.shift - float(t[start])
    return found._replace(kind="sublinear", exponent=-bent.slope, shift=shift)


def _doubt(pair: Pair, gaps: Array, span: float) -> str:
    """Return why the better fit is not conclusive, or an empty text if it is."""
    better = pair.better
    if gaps.max() < 2 * gaps[-1]:
        return "the gap has not halved"
    if better.fall <= 2 * better.rms:
        return "the gap does not fall by more than it scatters"
    if better.at_edge:
        return "the values have not slowed down enough to show their limit"
    if abs(pair.bic_difference) < STRONG_EVIDENCE:
        return "both fits are about as good"
    if better is pair.bent and better.slope <= -0.999 * MAX_SLOPE:
        return f"it slows down, but falls faster than t^-{MAX_SLOPE:g}"
    if better.shift + span < MIN_STRETCH * better.shift:
        return "it slows down, but too few rounds show whether that continues"
    return ""


def _undecided(reason: str) -> Rate:
    return Rate("undecided", reason=reason)
