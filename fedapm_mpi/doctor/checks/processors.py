"""Whether ranks compute with the same bits."""

from collections.abc import Iterator

from fedapm_mpi.doctor.findings import Finding, Observations, names, numbers
from fedapm_mpi.utils.kernels import PORTABLE


def processors(observed: Observations) -> Iterator[Finding]:
    """Find ranks on which portable kernels are refused, or last bits are others."""
    workers = observed.workers(observed.ranks)
    if observed.kernels == PORTABLE:
        lacking = [one for one in observed.ranks if one.processor_lacks is not None]
        if lacking:
            first = lacking[0]
            ranks = numbers(one.rank for one in lacking)
            where = f"ranks {ranks}, {names(one.host for one in lacking)}"
            why = f"{first.processor_lacks}: {first.processor}"
            what = f"kernels are portable, which {why} ({where})"
            yield Finding("fault", "processor", what, "other hosts, or kernels=native")
        return
    kinds = {one.processor: one.host for one in workers if one.processor}
    if len(kinds) > 1:
        shown = names(f"{kind} on {host}" for kind, host in kinds.items())
        what = f"last bits depend on which host trains a client: {shown}"
        remedy = "set kernels=portable, or use hosts of one kind"
        yield Finding("note", "kinds of processor", what, remedy)
