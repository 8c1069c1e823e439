"""Whether all ranks run the same software."""

from collections import Counter
from collections.abc import Iterator, Sequence

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers
from fedapm_mpi.doctor.rank_info import RankInfo

REMEDY = (
    "let all hosts use one environment, on a file system that all of them see, or "
    "install the same versions on each"
)


def versions(observed: Observations) -> Iterator[Finding]:
    """Find ranks with another version of a package, or another source of this one."""
    packages = list(
        dict.fromkeys(key for one in observed.ranks for key in one.versions)
    )
    for key in packages:
        yield from _skew(
            observed, key, [one.versions.get(key) for one in observed.ranks]
        )
    sources = [_source(one) for one in observed.ranks]
    if len({one.versions.get("fedapm_mpi") for one in observed.ranks}) == 1:
        yield from _skew(observed, "the source of fedapm_mpi", sources)
    yield from _skew(
        observed, "the MPI library", [one.library for one in observed.ranks]
    )


def _source(one: RankInfo) -> str:
    return f"{one.source} ({one.revision[:8]})" if one.revision else one.source


def _skew(
    observed: Observations, what: str, values: Sequence[str | None]
) -> Iterator[Finding]:
    counts = Counter(values)
    if len(counts) == 1:
        return
    usual = counts.most_common(1)[0][0]
    parts = []
    for value in counts:
        if value == usual:
            continue
        ranks = [rank for rank, one in enumerate(values) if one == value]
        where = names(map(observed.host, ranks))
        word = "rank" if len(ranks) == 1 else "ranks"
        parts.append(f"{value or 'none'} on {word} {numbers(ranks)} ({where})")
    text = f"{what} is not the same on all ranks: {usual or 'none'}, but {names(parts)}"
    yield Finding("fault", "version skew", text, REMEDY)
