"""Runs as an earlier version would have left them."""

import json

import yaml

NEW = {
    "algorithm": ["dual_step", "server_average", "units"],
    "evaluation": ["split", "fine_tune"],
    "split": ["first", "last"],
    "participation": [],
}
"""Keys, and options of theirs, that the old version did not know."""


WHOLE = (
    "groups",
    "partially_shared",
    "diagnostics",
    "tolerance",
    "aggregator",
    "client_weights",
    "task",
    "last_batch",
)


def of_old(path, note):
    """Write a description in format 1, which had no checksum of itself."""
    del note["checksum"], note["converged"]
    path.write_text(json.dumps(note | {"format": 1}, indent=1) + "\n")


def aged(run_directory):
    """Rewrite a run as a version without some of today's options would have left it."""

    def age(values):
        for key in WHOLE:
            del values[key]
        for key, options in NEW.items():
            for option in options:
                values[key].pop(option, None)  # an identity has no later ones

    path = run_directory / "checkpoints" / "round-000002" / "checkpoint.json"
    note = json.loads(path.read_text())
    age(note["identity"])
    of_old(path, note)
    path = run_directory / "config.yaml"
    values = yaml.safe_load(path.read_text())
    age(values)
    path.write_text(yaml.safe_dump(values))
    return run_directory
