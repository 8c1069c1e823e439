"""The differences between two configurations, one line per key."""

import re
from collections.abc import Mapping
from typing import Any

from fedapm_mpi.utils.text import MAX_LENGTH, truncate

_ABSENT = object()
_HASH = re.compile(r"[0-9a-f]{32,}")


def config_diff(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line such as ``algorithm.rho: 0.1 -> 0.2`` for each key that differs.

    Of a plug-in with another name, only the name is shown: its options are others.
    Hashes and long values are shortened, but never so that both look alike.
    """
    pairs = _pairs("", then, now)
    if any(key.endswith(".name") for key, *_ in pairs):
        # Options that an older version did not know are then not filled in.
        pairs = [pair for pair in pairs if pair[1] is not _ABSENT]
    return [
        f"{truncate(key)}: {was} -> {is_now}"
        for key, old, new in pairs
        for was, is_now in [_shown(old, new)]
    ]


def _pairs(prefix: str, then: Any, now: Any) -> list[tuple[str, Any, Any]]:
    both = isinstance(then, Mapping) and isinstance(now, Mapping)
    if not both:
        return [] if then == now else [(prefix, then, now)]
    dot = f"{prefix}." if prefix else ""
    if prefix and then.get("name") != now.get("name"):
        return [(f"{dot}name", then.get("name", _ABSENT), now.get("name", _ABSENT))]
    found = []
    for key in sorted({*then, *now}, key=str):
        found += _pairs(f"{dot}{key}", then.get(key, _ABSENT), now.get(key, _ABSENT))
    return found


def _shown(old: Any, new: Any) -> tuple[str, str]:
    texts = ["(none)" if value is _ABSENT else str(value) for value in (old, new)]
    if all(_HASH.fullmatch(text) or text == "(none)" for text in texts):
        short = [text[:12] for text in texts]
    else:
        short = [
            t if len(t) <= MAX_LENGTH else f"{t[: MAX_LENGTH - 3]}..." for t in texts
        ]
    if short[0] != short[1]:
        return short[0], short[1]
    # Equal up to there, or in all but the type: show where they differ, and how.
    pairs = zip(*texts, strict=False)
    k = next((k for k, (a, b) in enumerate(pairs) if a != b), min(map(len, texts)))
    if texts[0] == texts[1]:
        return repr(old)[:MAX_LENGTH], repr(new)[:MAX_LENGTH]
    start = max(0, k - 20)
    cut = [f"...{text[start : start + 40]}..." for text in texts]
    return cut[0], cut[1]
