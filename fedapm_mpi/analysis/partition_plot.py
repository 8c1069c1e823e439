"""A plot of a data set: each client's labels by class, and its number of samples."""

from functools import partial
from pathlib import Path

from fedapm_mpi.analysis.plots import (
    MAX_NAMED_CLIENTS,
    STYLE,
    figure_kind,
    plain,
    pyplot,
    write_figure,
)
from fedapm_mpi.data.manifest import Manifest
from fedapm_mpi.utils.atomic_io import atomic_write
from fedapm_mpi.utils.text import shorten


def draw_partition(manifest: Manifest, path: Path) -> None:
    """Draw each client's training labels, as shares of its samples, and its size.

    Parameters
    ----------
    manifest
        The data set.
    path
        Where to write; its suffix is png, svg or pdf.

    Raises
    ------
    ConfigError
        If the suffix is another, or matplotlib is not installed.
    WriteError
        If the file cannot be written.
    """
    kind = figure_kind(path)
    plt = pyplot()
    counts = manifest.label_counts["train"]
    m, classes = counts.shape
    sizes = counts.sum(axis=1)
    height = min(9.0, max(2.5, 0.22 * m + 1.2))
    with plt.rc_context(STYLE):
        figure, (labels, bars) = plt.subplots(
            1, 2, sharey=True, figsize=(8.5, height), layout="constrained",
            width_ratios=(3, 1),
        )  # fmt: skip
        image = labels.imshow(
            counts / sizes[:, None], aspect="auto", cmap="viridis", vmin=0, vmax=1,
            interpolation="nearest",
        )  # fmt: skip
        figure.colorbar(image, ax=bars, label="share of the client's samples")
        labels.set(title="Labels in training", xlabel="class", ylabel="client")
        labels.grid(visible=False)
        if classes <= MAX_NAMED_CLIENTS:
            names = [plain(shorten(name)) for name in manifest.classes]
            labels.set_xticks(range(classes), names, rotation=60, ha="right")
        if m <= MAX_NAMED_CLIENTS:
            names = [plain(shorten(name)) for name in manifest.client_names]
            labels.set_yticks(range(m), names, fontsize=8)
        bars.barh(
            range(m),
            sizes,
            height=1.0 if m > MAX_NAMED_CLIENTS else 0.8,
            color="#0072B2",
        )
        bars.set(title="Samples", xlabel="number", axisbelow=True)
        atomic_write(path, partial(write_figure, figure, kind))
        plt.close(figure)
