"""CrisisMMD, from the features that ``fedapm extract`` makes of its tweets."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from data_prep.sources._extracted import extracted
from data_prep.sources.base import Source, sources
from fedapm_mpi.errors import DataError


@sources.register("crisismmd")
def crisismmd(path: Path, *, client: Literal["event"] | None = None) -> Source:
    """Read extracted CrisisMMD v2.0: 18 000 tweets, image and text, 8 classes.

    FedAPM's experiments make 20 clients with ``partitioner=dirichlet``; with
    ``client=event`` each disaster is a client. Unless ``split=random``, each client is
    tested on its part of the official test split and validated on that of the official
    dev split; features of ``tables=annotations`` have no split of their own. Make the
    features first: ``fedapm extract crisismmd --from FOLDER --to FEATURES``.

    Split: its own, the official one; random for features of the annotations.

    Parameters
    ----------
    path
        Folder of the features.
    client
        Whether each event (a hurricane, a flood) is a natural client; there are none
        if None.

    Raises
    ------
    DataError
        If the folder does not hold finished features of CrisisMMD, or events are
        wanted that it does not have.

    References
    ----------
    Alam, Ofli and Imran (2018), CrisisMMD: multimodal Twitter datasets from natural
    disasters, ICWSM.
    """
    source = extracted(path, "crisismmd")
    ids, names = source.ids, source.id_names
    if client is None:
        hint = "client=event makes a client of each event"
        return replace(source, ids=None, id_names=(), client_hint=hint)
    if ids is None:
        msg = (
            f"client=event: {path} holds no events; the same 'fedapm extract "
            "crisismmd' again adds them, without making the features again, where the "
            "tables have a column 'event_name'"
        )
        raise DataError(msg)
    if "" in names:
        lacking = int((ids == names.index("")).sum())
        msg = (
            f"client=event: {lacking} of {len(ids)} items have no event; complete "
            "'event_name' in the tables, and run 'fedapm extract crisismmd' again"
        )
        raise DataError(msg)
    return source
