"""CrisisMMD, from the features that ``fedapm extract`` makes of its tweets."""

from pathlib import Path

from ._extracted import extracted
from .base import Source, sources


@sources.register("crisismmd")
def crisismmd(path: Path) -> Source:
    """Read extracted CrisisMMD v2.0: 18 000 tweets, picture and text, 8 classes.

    It names no clients; FedAPM's experiments make 20 with ``partitioner=dirichlet``.
    Unless ``split=random``, each client is tested on its part of the official test
    split and validated on that of the official dev split. Make the features first:
    ``fedapm extract crisismmd --from FOLDER --to FEATURES``.

    Split: its own, the official one.

    Parameters
    ----------
    path
        Folder of the features.

    Raises
    ------
    DataError
        If the folder does not hold finished features of CrisisMMD.

    References
    ----------
    Alam, Ofli and Imran (2018), CrisisMMD: multimodal Twitter datasets from natural
    disasters, ICWSM.
    """
    return extracted(path, "crisismmd")
