"""LEAF's JSON files, as its scripts make them."""

import json

import numpy as np

LAYOUT = "all_data_{}_niid_0_keep_0_{}_9.json"
"""What LEAF calls its files: number, train or test, digits of the fraction."""


def write(folder, users, **more):
    """Write one file of LEAF's; `users` is name to (x, y)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    held = {
        "users": list(users),
        "num_samples": [len(y) for _, y in users.values()],
        "user_data": {user: {"x": x, "y": y} for user, (x, y) in users.items()},
    }
    folder.write_text(json.dumps(held | more))


def write_split(root, make, users=("f0001", "f0000", "f0002"), train=8, test=3):
    """Write users into train and test, the last one into a second file."""
    for split, number in (("train", train), ("test", test)):
        for file, names in enumerate((users[:-1], users[-1:])):
            held = {name: make(name, split, number) for name in names}
            write(root / "data" / split / LAYOUT.format(file, split), held)
    return root


def bytes_of(user, split, number):
    """Return the grey values that an image was made from, known by its place."""
    rng = np.random.default_rng([int(user[1:]), len(split)])
    return rng.integers(0, 256, (number, 784))


def images(user, split, number):
    grey = bytes_of(user, split, number)
    return (grey / 255).tolist(), [(int(user[1:]) + k) % 62 for k in range(number)]


def windows(user, split, number):
    line = (" " * 80 + f"{user} {split}: Now is the winter of our discontent;\n")[:140]
    x = [line[k : k + 80] for k in range(number)]
    return x, [line[k + 80] for k in range(number)]
