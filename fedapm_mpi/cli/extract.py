"""Extract features from an archive's images, audio, video and text."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fedapm_mpi.cli.arguments import Parser, add_kernels
from fedapm_mpi.cli.command import Command
from fedapm_mpi.cli.prepare import add_paths, request_of
from fedapm_mpi.comm import SERVER, Communicator
from fedapm_mpi.config import plugin_sources
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.plugins.errors import to_fedapm_error
from fedapm_mpi.plugins.names import display_name, is_user_plugin
from fedapm_mpi.utils import kernels
from fedapm_mpi.utils.log import get_logger

log = get_logger(__name__)

HELP = "extract features from images, audio, video and text; may run under mpiexec"

OLD_OPTIONS = {
    "crema-d": {"sound_frames": "audio_frames", "film_frames": "video_frames"},
    "crisismmd": {"picture_weights": "image_weights"},
}
"""Old names of archives' options, which are read, and the new ones. Folders of features
keep the old ones, so that their hashes and those of data sets stay what they were."""

UPDATE_SECONDS = 10.0
"""Seconds between two progress lines."""


class ExtractOptions(NamedTuple):
    """A command line as rank 0 reads it, for all ranks."""

    name: str
    origin: Path
    directory: Path
    options: dict[str, Any]
    kernels: str = kernels.NATIVE


class ExtractCommand(Command[ExtractOptions]):
    """Extract features."""

    parallel = True
    prints_result = False

    def add_arguments(self, parser: Parser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "source",
            nargs="?",
            metavar="SOURCE",
            help="name of the archive; see --list",
        )
        add_paths(parser, "folder of the archive", "folder of the features")
        parser.add_argument(
            "options", nargs="*", metavar="KEY=VALUE", help="options of the archive"
        )
        add_kernels(parser)
        parser.add_argument(
            "--list", action="store_true", help="list the archives and stop"
        )

    def kernels(self, args: argparse.Namespace) -> str:
        """Return those that the command line names."""
        named: str = args.kernels
        return named

    def read(self, args: argparse.Namespace) -> ExtractOptions | None:
        """Return what to extract, from where and to where."""
        from data_prep.extractors import extractors
        from fedapm_mpi.config.validation import validate_options

        if args.list:
            for name in extractors.names():
                first = (extractors.get(name).__doc__ or "").partition("\n")[0]
                _say(f"{name:<12}{first}")
            return None
        source, given = request_of(args, "extract")
        dashed = source.replace("_", "-")
        builtin = dashed in extractors.builtin_names()
        name = extractors.resolve(dashed if builtin else source)
        given = _by_new_names(name, given)
        options, errors = validate_options(
            f"extract {display_name(name)!r}", extractors.get(name), given, 1
        )
        if errors:
            raise ConfigError("\n".join(errors))
        return ExtractOptions(name, args.origin, args.directory, options, args.kernels)

    def run(self, comm: Communicator, options: ExtractOptions) -> int:
        """Extract the features of every item; return the exit code."""
        import torch

        from data_prep.extractors import extractors
        from data_prep.feature_extraction import extract
        from fedapm_mpi.engine.kernels import open_on_ranks

        open_on_ranks(options.kernels, comm)
        # Ranks share the cores; more threads here would only be in each other's way.
        torch.set_num_threads(1)
        extractor = _extractor(comm, extractors.get(options.name), options)
        begun = time.monotonic()
        found = extract(
            comm,
            extractor,
            options.directory,
            identity=_identity(options, extractor),
            skip_broken=bool(options.options.get("skip_broken")),
            tell=_Progress(),
        )
        if comm.rank == SERVER:
            _say(
                f"{options.directory}: {len(found['names'])} items of "
                f"{found['dataset']}, {len(found['skipped'])} broken ones left out, "
                f"{time.monotonic() - begun:.0f} s"
            )
        return 0


COMMAND = ExtractCommand()


def _by_new_names(archive: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their new names; print those that were given by an old one."""
    renamed = OLD_OPTIONS.get(archive, {})
    for old in renamed.keys() & given.keys():
        if renamed[old] in given:
            msg = (
                f"extract: {old} is the old name of {renamed[old]}; remove one of them"
            )
            raise ConfigError(msg)
        log.info("%s is now %s", old, renamed[old])
    return {renamed.get(key, key): value for key, value in given.items()}


def _deciding(extractor: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options except for those that were added later and have defaults."""
    added = getattr(extractor, "added", {})
    return {k: v for k, v in options.items() if k not in added or v != added[k]}


def _extractor(
    comm: Communicator, factory: Callable[..., Any], order: ExtractOptions
) -> Any:
    """Return the extractor; a collective call, since a user plug-in may fail."""
    from fedapm_mpi.federation.plugin_checks import check_methods

    made: Any = None
    error: FedAPMError | None = None
    try:
        made = factory(order.origin, **order.options)
        needed = ("dataset", "inputs", "items", "facts", "extract")
        check_methods("extractor", {"name": order.name}, made, *needed)
    except Exception as caught:
        error = to_fedapm_error(caught, building=True)
    comm.raise_collectively(error)
    return made


def _identity(order: ExtractOptions, extractor: Any) -> dict[str, Any]:
    """Return the identity of features: the extractor, its options and its code."""
    old_names = {new: old for old, new in OLD_OPTIONS.get(order.name, {}).items()}
    deciding = _deciding(extractor, order.options)
    found = {
        "extractor": order.name,
        "options": {old_names.get(key, key): v for key, v in deciding.items()},
    }
    if order.kernels != kernels.NATIVE:
        found["kernels"] = order.kernels
    if not is_user_plugin(order.name):
        return found
    part = plugin_sources.without_folder({"name": order.name})
    code = plugin_sources.hashes_of([order.name])
    return {**found, "extractor": part["name"], plugin_sources.KEY: code}


class _Progress:
    """Prints the progress from time to time."""

    def __init__(self) -> None:
        self._begun: tuple[float, int] | None = None
        self._printed_at = -UPDATE_SECONDS

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        self._begun = self._begun or (now, done)
        if done < of and now - self._printed_at < UPDATE_SECONDS:
            return
        self._printed_at = now
        begun, before = self._begun
        left = ""
        if done > before and done < of:
            seconds = (now - begun) / (done - before) * (of - done)
            left = f", about {seconds / 60:.0f} min left"
        _say(f"{done} of {of} chunks{left}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201
