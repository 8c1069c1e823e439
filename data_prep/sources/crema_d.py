"""CREMA-D, from the features that ``fedapm extract`` makes of its clips."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from data_prep.sources._extracted import extracted
from data_prep.sources.base import Source, sources


@sources.register("crema-d")
def crema_d(
    path: Path,
    *,
    normalise: Literal["train", "all", "none"] = "train",
) -> Source:
    """Read extracted CREMA-D: 91 actors, sound and film, 4 emotions.

    Each speaker is a client. Make the features first: ``fedapm extract crema_d --from
    CLONE --to FEATURES``.

    Split: random; the data set has none of its own.

    Parameters
    ----------
    path
        Folder of the features.
    normalise
        Whether the sound's bands are standardised at each speaker by its training
        clips, by all of its clips (as in FedAPM's experiments), or not.

    Raises
    ------
    DataError
        If the folder does not hold finished features of CREMA-D.

    References
    ----------
    Cao et al. (2014), CREMA-D: crowd-sourced emotional multimodal actors dataset, IEEE
    Transactions on Affective Computing 5(4).
    """
    source = extracted(path, "crema-d")
    if normalise == "none":
        return source
    first = {"name": "standardise", "over": normalise, "inputs": ["audio"]}
    return replace(source, shifts=(first,))
