"""The figure of a data set's clients and classes."""

import numpy as np
import pytest

from fedapm_mpi.analysis import partition_plot as partition
from fedapm_mpi.cli import inspect as inspect_command
from fedapm_mpi.errors import ConfigError
from tests.support.preparation import command, prepare


@pytest.fixture
def drawn(monkeypatch):
    """Return the figures that are written, as they are written."""
    pytest.importorskip("matplotlib")
    figures = []
    write = partition.write_figure

    def keep(figure, kind, path):
        figures.append(figure)
        write(figure, kind, path)

    monkeypatch.setattr(partition, "write_figure", keep)
    return figures


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_plot_shows_every_client_and_class(origin, tmp_path, drawn, kind):
    manifest = prepare("arrays", origin, tmp_path / "to", "partitioner=quantity-power",
                       "clients=4", "partitioner.min_samples=5")  # fmt: skip
    paths = [tmp_path / f"{number}.{kind}" for number in (1, 2)]
    for path in paths:
        command(inspect_command, tmp_path / "to", "--plot", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    labels, bars = drawn[0].axes[:2]
    counts = manifest.label_counts["train"]
    np.testing.assert_allclose(
        labels.images[0].get_array() * manifest.counts["train"][:, None], counts
    )
    assert [bar.get_width() for bar in bars.patches] == counts.sum(axis=1).tolist()
    assert [t.get_text() for t in labels.get_xticklabels()] == list(manifest.classes)
    assert [t.get_text() for t in labels.get_yticklabels()] == [
        f"client {i}" for i in range(4)
    ]


def test_the_plot_of_very_many_clients_has_no_names(tmp_path, drawn):
    path = tmp_path / "many.npz"
    np.savez(path, x_number=np.arange(800)[:, None], y=np.arange(800) % 3,
             client=np.arange(800) // 2)  # fmt: skip
    prepare("arrays", path, tmp_path / "to")
    command(inspect_command, tmp_path / "to", "--plot", tmp_path / "many.png")
    labels = drawn[0].axes[0]
    assert labels.images[0].get_array().shape == (400, 3)
    assert "client 7" not in [t.get_text() for t in labels.get_yticklabels()]
    assert drawn[0].get_figheight() < 10


def test_a_plot_that_can_not_be_drawn(origin, tmp_path):
    prepare("arrays", origin, tmp_path / "to")
    for name in ("x.jpg", "x"):
        with pytest.raises(ConfigError, match=r"is written as \.png, \.svg, \.pdf"):
            command(inspect_command, tmp_path / "to", "--plot", tmp_path / name)
    with pytest.raises(ConfigError, match=r"--plot: there is no folder .*no; create"):
        command(inspect_command, tmp_path / "to", "--plot", tmp_path / "no" / "x.png")
