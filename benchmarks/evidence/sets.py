"""The data sets of the study: their clients, models, budgets and seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FULL, FEW = "full", "30%"
PARTICIPATION: Mapping[str, Mapping[str, Any]] = {
    FULL: {"name": "full"},
    FEW: {"name": "random", "fraction": 0.3},
}
"""Who takes part in a round."""

LABELS = 0.1
"""Part of the training labels that each client keeps in the sets with few labels."""


@dataclass(frozen=True)
class StudySet:
    """One data set of the study."""

    about: str
    """Its clients, in the heading of its tables."""

    model: Mapping[str, Any]
    passes: int
    """Budget of a trial and of a final run, in passes over the training data."""

    test_seeds: int = 5
    """Seeds of the final runs, none of which the search has seen."""


MLP = {"name": "mlp", "hidden": [64]}
CNN = {"name": "cnn", "channels": [8, 16], "hidden": 64}
FILM = {"name": "audio-video", "hidden": 32, "filters": 8, "attention": 64}

SETS: Mapping[str, StudySet] = {
    "watch-few": StudySet(
        "20 arms, 12 labelled windows of a smartwatch each", MLP, 160
    ),
    "watch": StudySet("20 arms, 112 windows of a smartwatch each", MLP, 40),
    "star_schools": StudySet("60 schools, 56 pupils each, a table", MLP, 40),
    "hapt-few": StudySet("30 people, 7 labelled windows of a phone each", MLP, 160),
    "hapt": StudySet("30 people, 71 windows of a phone each", MLP, 40),
    "av_digits-few": StudySet(
        "30 people, 6 labelled pairs of an image and a sound each", MLP, 160
    ),
    "av_digits": StudySet("30 people, 60 pairs of an image and a sound each", MLP, 40),
    "cifar-b0.1": StudySet(
        "20 clients, 400 images each, labels by Dir(0.1)", CNN, 30, 3
    ),
    "cifar-b0.5": StudySet(
        "20 clients, 400 images each, labels by Dir(0.5)", CNN, 30, 3
    ),
    "av_digits-film": StudySet("30 people, the paper's network", FILM, 20, 3),
}
"""By name, those first that a reader needs first."""
