"""Time limits as sbatch writes them."""

import re

from fedapm_mpi.errors import ConfigError

TIME_LIMIT = re.compile(r"(?:(\d+)-)?(\d+(?:\.\d+)?)(?::(\d+))?(?::(\d+))?")


def parse_duration(limit: str) -> float:
    """Return the seconds in a time limit, written as for ``sbatch --time``.

    Those are MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS,
    DAYS-HOURS:MINUTES and DAYS-HOURS:MINUTES:SECONDS.

    Raises
    ------
    ConfigError
        If it is written otherwise.
    """
    found = TIME_LIMIT.fullmatch(limit.strip())
    if found is None:
        msg = (
            f"{limit!r} is not a time limit; write MINUTES, HOURS:MINUTES:SECONDS or "
            "DAYS-HOURS:MINUTES:SECONDS"
        )
        raise ConfigError(msg)
    days, *rest = found.groups()
    numbers = [float(number) for number in rest if number is not None]
    units = [3600, 60, 1] if days is not None or len(numbers) == 3 else [60, 1]
    pairs = zip(numbers, units, strict=False)
    return 86400 * float(days or 0) + sum(n * unit for n, unit in pairs)
