"""Compare portable runs with those that are published, down to layer and step.

``python -m tests.support.portable check`` trains every run of `portable_cases` in this
process, with ``kernels: portable``, and compares its digest, its figures and its trace
with those in ``tests/portable_digests.json``. Where a run differs, the first entry of
the trace that parts is named: a parameter before a step, what a layer returned, the
loss, or a parameter's gradient. ``record`` writes this machine's into the file, under
the versions of torch and NumPy, which bits depend on. ``--only CASE`` is for both.

The numerical libraries are loaded by `main`, after their switches are set.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedapm_mpi.utils import kernels
from tests.support import PLUGINS, TESTS

PUBLISHED = TESTS / "portable_digests.json"

DETAILED = 3
"""Steps of which the trace has every layer; of later ones it has the gradient."""

Published = dict[str, Any]
"""Of one pair of versions: ``data`` and ``cases``."""


def short(values: Any) -> str:
    """Return a short hash of a tensor's bytes."""
    array = values.detach().contiguous().numpy()
    return sha256(array.tobytes()).hexdigest()[:8]


class Trace:
    """What the local steps of a run pass through, as names and hashes in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self._steps = 0
        self._names: dict[int, str] | None = None

    def add(self, name: str, values: Any) -> None:
        """Add an entry of the present step."""
        self.entries.append((f"step {self._steps}: {name}", short(values)))

    def gradient(self, old: Any, objective: Any, part: str, batch: Any) -> Any:
        """Stand in for `LocalObjective.gradient`, the method `old`."""
        self._steps += 1
        model = objective.model
        if self._steps > DETAILED:
            found = old(objective, part, batch)
            self.add(f"gradient of the {part} block", found)
            return found
        for name, parameter in model.module.named_parameters():
            self.add(f"parameter {name}", parameter)
        self._names = {id(m): n for n, m in model.module.named_modules()}
        before = objective.loss_sum
        found = old(objective, part, batch)
        self._names = None
        self.entries.append((f"step {self._steps}: loss", _number(objective, before)))
        for name, parameter in model.module.named_parameters():
            if parameter.requires_grad:
                self.add(f"gradient of {name}", parameter.grad)
        return found

    def forward(self, module: Any, _inputs: Any, outputs: Any) -> None:
        """Add what a layer returned; a hook of torch for all modules."""
        if self._names is None or id(module) not in self._names:
            return
        name = self._names[id(module)] or "the model"
        for k, values in enumerate(_tensors(outputs)):
            self.add(f"output {k} of {name} ({type(module).__name__})", values)


def _number(objective: Any, before: float) -> str:
    return sha256((objective.loss_sum - before).hex().encode()).hexdigest()[:8]


def _tensors(outputs: Any) -> Iterator[Any]:
    """Yield the floating-point tensors in what a layer returns."""
    if hasattr(outputs, "is_floating_point"):
        if outputs.is_floating_point():
            yield outputs
    elif isinstance(outputs, tuple | list):
        for one in outputs:
            yield from _tensors(one)


@contextmanager
def traced() -> Iterator[Trace]:
    """Trace all local steps inside the context."""
    from torch.nn.modules.module import register_module_forward_hook

    from fedapm_mpi.engine.local_objective import LocalObjective

    trace, old = Trace(), LocalObjective.gradient
    handle = register_module_forward_hook(trace.forward)
    replaced: Any = lambda self, part, batch: trace.gradient(old, self, part, batch)  # noqa: E731
    LocalObjective.gradient = replaced  # type: ignore[method-assign]
    try:
        yield trace
    finally:
        LocalObjective.gradient = old  # type: ignore[method-assign]
        handle.remove()


def run_case(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train a run; return its digest, a hash of its records, and its trace.

    Parameters
    ----------
    config
        The experiment.
    folder
        The run directory, which does not exist yet.
    """
    from fedapm_mpi.comm import Serial
    from fedapm_mpi.config.loader import resolve
    from fedapm_mpi.training.runner import train_run
    from tests.support.golden import READERS

    with traced() as trace:
        run = train_run(
            Serial(), resolve(config, [], "case"), directory=folder, progress="none"
        )
    records = json.dumps(READERS["record"](folder), sort_keys=True)
    return {
        "digest": run.digest,
        "figures": sha256(records.encode()).hexdigest()[:16],
        "trace": " ".join(f"{value}" for _, value in trace.entries),
        "names": [name for name, _ in trace.entries],
    }


def run_all(root: Path, only: Iterable[str] = ()) -> Published:
    """Write the data and train every run; return what is published of them.

    Parameters
    ----------
    root
        An empty folder.
    only
        Names of runs; all by default.
    """
    from fedapm_mpi.data.manifest import read_manifest
    from tests.support.portable_cases import cases, write_data

    data = write_data(root / "data")
    found = {name: read_manifest(path).sha256 for name, path in data.items()}
    wanted = cases(data)
    unknown = set(only) - wanted.keys()
    if unknown:
        sys.exit(f"portable: no run is called {', '.join(sorted(unknown))}")
    names = list(only) or list(wanted)
    return {
        "data": dict(sorted(found.items())),
        "cases": {name: run_case(wanted[name], root / name) for name in names},
    }


def difference(found: dict[str, Any], published: dict[str, Any]) -> str | None:
    """Return where a run parts from the published one; `None` if nowhere.

    Parameters
    ----------
    found
        What `run_case` returned.
    published
        The same, without the names, which are those found here.
    """
    pairs = zip(
        found["names"],
        found["trace"].split(" "),
        published["trace"].split(" "),
        strict=False,
    )
    for name, here, there in pairs:
        if here != there:
            return f"parts at {name} (here {here}, published {there})"
    lengths = [len(one["trace"].split(" ")) for one in (found, published)]
    if lengths[0] != lengths[1]:
        return f"has {lengths[0]} entries in its trace, published are {lengths[1]}"
    for key, what in (("digest", "steps"), ("figures", "states")):
        if found[key] != published[key]:
            return f"has another {key} than published after the same {what}"
    return None


def differences(found: Published, published: Published) -> dict[str, str]:
    """Return where runs part from the published ones, by name of run, data first."""
    other = [
        name
        for name, digest in found["data"].items()
        if published["data"].get(name) != digest
    ]
    parted = {f"data {name}": "is not that of the published runs" for name in other}
    for name, run in found["cases"].items():
        if name not in published["cases"]:
            parted[name] = "is not published"
            continue
        text = difference(run, published["cases"][name])
        if text is not None:
            parted[name] = text
    return parted


def versions() -> str:
    """Return the versions that published bits belong to."""
    from fedapm_mpi.utils.system_info import package_version

    return f"torch {package_version('torch')}, numpy {package_version('numpy')}"


def published() -> dict[str, Published]:
    """Return what is published, by versions."""
    found: dict[str, Published] = json.loads(PUBLISHED.read_text("utf-8"))
    return found


def main(words: list[str] | None = None) -> int:
    """Check or record; return the exit code, 1 where runs part."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.portable")
    parser.add_argument("what", choices=["check", "record"])
    parser.add_argument("--only", nargs="+", metavar="CASE", default=[])
    parser.add_argument("--json", type=Path, help="file for the names that part")
    options = parser.parse_args(words)
    kernels.use_portable()
    sys.path.insert(0, str(PLUGINS))
    known = published() if PUBLISHED.exists() else {}
    key = versions()
    if options.what == "check" and key not in known:
        sys.exit(f"portable: nothing is published for {key}, only {', '.join(known)}")
    with tempfile.TemporaryDirectory(prefix="fedapm-portable-") as folder:
        found = run_all(Path(folder), options.only)
    if options.what == "record":
        kept = known.get(key, {"data": {}, "cases": {}})
        for run in found["cases"].values():
            run.pop("names")
        kept = {"data": found["data"], "cases": kept["cases"] | found["cases"]}
        PUBLISHED.write_text(json.dumps(known | {key: kept}, indent=1) + "\n", "utf-8")
        return 0
    parted = differences(found, known[key])
    for name, text in parted.items():
        sys.stdout.write(f"{name} {text}\n")
    sys.stdout.write(f"{len(found['cases'])} runs, {len(parted)} differ\n")
    if options.json is not None:
        options.json.write_text(json.dumps(parted), "utf-8")
    return 1 if parted else 0


if __name__ == "__main__":
    sys.exit(main())
