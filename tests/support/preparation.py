"""Prepare data by the command, and read everything that was written."""

import argparse

from fedapm_mpi.cli import prepare as prepare_command
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader, verify_checksums

N = 120
"""Samples of the source `origin`."""


def command(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.run(parser.parse_args([str(word) for word in words]))


def prepare(source, origin, directory, *options):
    code = command(
        prepare_command, source, "--from", origin, "--to", directory, *options
    )
    assert code == 0
    manifest = read_manifest(directory)
    verify_checksums(manifest)
    return manifest


def everyone(manifest):
    """Return split name to what each client holds."""
    reader = ShardReader(manifest)
    reader.check(range(manifest.num_clients))
    held = {
        split: [reader.read(client, split) for client in range(manifest.num_clients)]
        for split in manifest.counts
    }
    reader.close()
    return held
