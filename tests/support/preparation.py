"""Prepare data by the command, and read everything that was written."""

from fedapm_mpi.cli import prepare as prepare_command
from fedapm_mpi.cli.arguments import Parser
from fedapm_mpi.comm import Serial
from fedapm_mpi.data.manifest import read_manifest
from fedapm_mpi.data.reader import ShardReader, verify_checksums

N = 120
"""Samples of the source `origin`."""


def command(module, *words):
    parser = Parser()
    module.COMMAND.add_arguments(parser)
    args = parser.parse_args([str(word) for word in words])
    options = module.COMMAND.read(args)
    return 0 if options is None else module.COMMAND.run(Serial(), options)


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
