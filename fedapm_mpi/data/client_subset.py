"""The first clients of a data set as a data set of their own."""

from dataclasses import replace

from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.errors import ConfigError


def first_clients(manifest: Manifest, count: int | None) -> Manifest:
    """Return a manifest that knows of its first clients alone.

    Whoever reads samples needs the whole one, which says what is in the files.

    Parameters
    ----------
    manifest
        A whole data set.
    count
        How many of its clients; `None` for all of them.

    Raises
    ------
    ConfigError
        If there are not so many.
    """
    if count is None:
        return manifest
    if count > manifest.num_clients:
        msg = (
            f"clients is {count}, but the data set has only {manifest.num_clients} "
            "clients"
        )
        raise ConfigError(msg)
    return replace(
        manifest,
        num_clients=count,
        counts={name: n[:count] for name, n in manifest.counts.items()},
        label_counts={name: n[:count] for name, n in manifest.label_counts.items()},
        client_names=manifest.client_names[:count],
        lacking={
            name: tuple(client for client in clients if client < count)
            for name, clients in manifest.lacking.items()
        },
    )
