"""Checkpoints of a small state, and every bit of them flipped."""

import json

import torch

from fedapm_mpi.comm import Serial
from fedapm_mpi.storage import checkpoint
from fedapm_mpi.storage.checkpoint_metadata import write_description


def save(root, t, keep=9, states=None):
    checkpoint.save(
        Serial(),
        root,
        t,
        identity={"seed": 1, "algorithm": {"name": "a", "rho": 0.1}},
        server={
            "rows": torch.full((1, 3), float(t), dtype=torch.float64),
            "seen": torch.tensor([False, True, False, True]),
        },
        states=states or {1: {"u": torch.ones(3)}, 3: {"u": torch.zeros(3)}},
        keep=keep,
    )
    return root / f"round-{t:06}"


def flips(raw):
    for k in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[k // 8] ^= 1 << k % 8
        yield bytes(changed)


def edit(change, kind=2):
    """Return a harm: change what a description says, and give it a right checksum."""

    def harm(path):
        note = json.loads(path.read_text())
        del note["checksum"], note["format"]
        change(note)
        if kind == 2:
            write_description(path.parent, note)
        else:
            note.pop("converged", None)
            path.write_text(json.dumps({"format": 1, **note}, indent=1) + "\n")

    return harm
