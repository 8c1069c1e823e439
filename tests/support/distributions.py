"""Distributions as an installer leaves them: metadata in a folder of sys.path."""

from pathlib import Path


def install(site: Path, name: str, entry_points: str, version: str = "1.2") -> None:
    """Write the metadata of a distribution that declares entry points."""
    metadata = site / f"{name}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    (metadata / "entry_points.txt").write_text(entry_points)
