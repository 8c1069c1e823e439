"""A data source of your own: one CSV file for each client.

    python examples/my_source.py recordings
    fedapm prepare ./examples/my_source.py:sensors --from recordings --to data/sensors

The first command writes six small files, so that there is something to prepare; the
other examples train on the result. `scale=0.5` at the end sets the source's option.
"""

import sys
from pathlib import Path

import numpy as np

from data_prep.sources import Source
from fedapm_mpi.data.table import Table, column
from fedapm_mpi.errors import DataError


def sensors(path: Path, *, scale: float = 1.0) -> Source:
    """Read one CSV file for each client: features, then the label."""
    files = sorted(Path(path).glob("*.csv"))
    if not files:
        msg = f"{path} holds no .csv file"
        raise DataError(msg)
    rows = [np.loadtxt(file, delimiter=",", ndmin=2) for file in files]
    every = np.concatenate(rows)
    return Source(
        table=Table(
            dataset="sensors",
            columns=[column("features", (every[:, :-1] * scale).astype(np.float32))],
            labels=every[:, -1].astype(np.int64),
            classes=["still", "walking", "running"],
        ),
        files=tuple(files),
        ids=np.repeat(np.arange(len(files)), [len(one) for one in rows]),
        id_names=tuple(file.stem for file in files),
    )


def write_recordings(folder: Path, clients: int = 6, samples: int = 60) -> None:
    """Write made-up recordings: three classes, shifted by client."""
    folder.mkdir(parents=True, exist_ok=True)
    for client in range(clients):
        rng = np.random.default_rng(client)
        labels = np.arange(samples) % 3
        features = np.eye(4)[labels] + rng.normal(scale=0.5, size=(samples, 4))
        features += rng.normal(scale=0.3, size=4)
        table = np.column_stack([features, labels])
        np.savetxt(folder / f"person-{client}.csv", table, fmt="%.3f", delimiter=",")


if __name__ == "__main__":
    write_recordings(Path(sys.argv[1]))
