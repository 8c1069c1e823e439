"""Seconds of a round on a GPU, compared with one core of the processor.

    python -m benchmarks.gpu [--models cnn resnet18] [--ranks 3 5] [--rounds 4]
                             [--data FOLDER] [--csv FILE]

W1 with FedAPM: on one core; on the GPU by one process, with CUDA graphs and with
every kernel launched separately, in single precision and in bfloat16; and on several
ranks that share the GPU. The first round, which reads data and captures graphs, is left
out. Digests of all runs in single precision on the GPU must be equal. Only the `cnn` is
trained on the processor, since other models would take hours.
"""

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import workloads as w1
from benchmarks._common import keep, machine, training
from fedapm_mpi.analysis.run import Run
from fedapm_mpi.comm import Serial
from fedapm_mpi.config import yaml_io as yamlfile
from fedapm_mpi.config.loader import validate
from fedapm_mpi.engine.cuda_graphs import CudaGraphCache
from fedapm_mpi.training.runner import train

SPLITS = {"cnn": ["fc*"], "resnet18": ["fc.*"]}


@contextmanager
def without_graphs() -> Iterator[None]:
    """Disable CUDA graphs."""
    replayed = CudaGraphCache.run

    def run(self: CudaGraphCache, key: Any, body: Any, sources: Any, rows: Any) -> Any:
        return body([source.index_select(0, rows) for source in sources])

    CudaGraphCache.run = run  # type: ignore[method-assign]
    try:
        yield
    finally:
        CudaGraphCache.run = replayed  # type: ignore[method-assign]


def measured(run: Path) -> tuple[float, float, str]:
    """Return a round's seconds of local work and of evaluation, and the digest."""
    done = Run.load(run)
    seconds = [record["seconds"] for record in done.records[2:]]
    local = statistics.mean(s["local"] for s in seconds)
    evaluate = statistics.mean(s["evaluate"] for s in seconds)
    return local, evaluate, done.digest


def alone(values: dict[str, Any], run: Path) -> tuple[float, float, str]:
    """Train in this process."""
    train(Serial(), validate(values, "gpu"), directory=run, progress="none")
    return measured(run)


def together(values: dict[str, Any], run: Path, ranks: int) -> tuple[float, float, str]:
    """Train on ranks that share the GPU."""
    config = run.with_suffix(".yaml")
    config.write_text(yamlfile.dump(values))
    subprocess.run(training(config, run, ranks), check=True)
    return measured(run)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--models", nargs="+", choices=SPLITS, default=["cnn"])
    parser.add_argument("--ranks", nargs="*", type=int, default=[3, 5])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--data", type=Path, default=Path("data/benchmarks"))
    parser.add_argument("--csv", type=Path)
    args = parser.parse_args(words)
    print(f"{machine()}; {torch.cuda.get_device_name()}")
    data = w1.prepare(args.data, "W1").absolute()
    lines: list[list[object]] = []
    for model in args.models:
        base = w1.configuration(data, "fedapm", args.rounds)
        base |= {"model": {"name": model}, "split": {"personal": SPLITS[model]}}
        gpu = base | {"device": "cuda"}
        found: dict[str, tuple[float, float, str]] = {}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if model == "cnn":
                found["one core"] = alone(base, folder / "cpu")
            found["GPU"] = alone(gpu, folder / "gpu")
            with without_graphs():
                found["GPU, no graphs"] = alone(gpu, folder / "no-graphs")
            half = gpu | {"precision": "bf16"}
            found["GPU, bf16"] = alone(half, folder / "bf16")
            for ranks in args.ranks:
                run = folder / f"ranks-{ranks}"
                found[f"GPU, {ranks - 1} client ranks"] = together(gpu, run, ranks)
        for way, (local, evaluate, _) in found.items():
            print(f"{model}, {way}: {local:.3f} s of local work, {evaluate:.3f} s eval")
            gpu_name = torch.cuda.get_device_name()
            lines.append([model, way, local, evaluate, gpu_name])
        single = [d for w, (*_, d) in found.items() if "GPU" in w and "bf16" not in w]
        if len(set(single)) > 1:
            msg = f"{model}: runs on the GPU ended with different digests"
            raise SystemExit(msg)
    keep(args.csv, ["model", "way", "local_s", "evaluate_s", "gpu"], lines)


if __name__ == "__main__":
    main()
