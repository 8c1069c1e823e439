"""Get a data set from the hub of Hugging Face, for the source ``hf``."""

import importlib
import re
from pathlib import Path
from typing import Any

from data_prep.sources._hf_files import DICT, ENDINGS, INFO, STATE
from fedapm_mpi.errors import ConfigError, DataError
from fedapm_mpi.utils.text import format_value, truncate

CONVERTED = "refs/convert/parquet"
"""Branch on which the hub has nearly every data set as parquet files."""


def fetch(name: str, directory: Path) -> Path:
    """Download the Arrow and parquet files of a data set; return their folder.

    If it has none, those that the hub made of it are taken. Files that are there
    already are not downloaded again.

    Parameters
    ----------
    name
        Its name on the hub, ``OWNER/NAME``.
    directory
        Folder in which a folder is made.

    Raises
    ------
    DataError
        If there is no such data set, it has no such files, or the network fails.
    ConfigError
        If huggingface_hub is not installed.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        msg = f"{format_value(name)} is no data set of the hub; give hf:OWNER/NAME"
        raise ConfigError(msg)
    hub = _hub()
    folder = directory / name.replace("/", "--")
    try:
        revision, files = _files(hub, name)
        if files:
            hub.snapshot_download(
                name,
                repo_type="dataset",
                revision=revision,
                local_dir=folder,
                allow_patterns=files,
            )
            return folder
    except Exception as error:  # of the network, in many kinds by version
        said = truncate(str(error).partition("\n")[0] or type(error).__name__, 200)
        msg = (
            f"cannot download the data set {name} from the hub ({said}); check its "
            "name and the network, or copy its files here and give their folder to "
            "prepare hf"
        )
        raise DataError(msg) from error
    msg = (
        f"the data set {name} has no Arrow or parquet files on the hub; save it with "
        "save_to_disk of the library datasets, and give that folder to prepare hf"
    )
    raise DataError(msg)


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        msg = (
            "downloading from the hub needs huggingface_hub, which is not installed: "
            "install it with pip install 'fedapm-mpi[hf]'"
        )
        raise ConfigError(msg) from error


def _files(hub: Any, name: str) -> tuple[str | None, list[str]]:
    """Return the branch that has files, and these, with their descriptions."""
    for revision in (None, CONVERTED):
        listed = hub.HfApi().list_repo_files(
            name, repo_type="dataset", revision=revision
        )
        files = [file for file in listed if file.lower().endswith(ENDINGS)]
        if files:
            described = [f for f in listed if Path(f).name in (DICT, STATE, INFO)]
            return revision, files + described
    return None, []
