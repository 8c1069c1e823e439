"""Whether collectives gave what they must."""

from collections.abc import Iterator

from fedapm_mpi.doctor.findings import Finding, Observations, names

REMEDY = (
    "do not train with this MPI: try its own launcher, another network (UCX_TLS=tcp, "
    "FI_PROVIDER=tcp), or another library"
)


def wrong_results(observed: Observations) -> Iterator[Finding]:
    """Tell where a collective gave another result than the closed form."""
    if observed.measured and observed.measured.wrong:
        yield Finding("fault", "collectives", names(observed.measured.wrong), REMEDY)
