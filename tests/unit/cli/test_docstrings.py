"""What is read of algorithms without importing them."""

import inspect

from fedapm_mpi.cli import docstrings as source
from fedapm_mpi.cli.main import main


def test_a_list_of_algorithms_is_what_importing_them_gives(capsys):
    from fedapm_mpi.algorithms import algorithms

    names = []
    for module in source.parts("algorithms"):
        name, kind = source.registered(f"algorithms.{module}")
        parameters = inspect.signature(algorithms.get(name)).parameters
        assert source.options(f"algorithms.{module}", kind) == {
            one.name: one.default is not inspect.Parameter.empty
            for one in parameters.values()
        }
        names.append(name)
    assert names == algorithms.names()
    assert main(["algorithms"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  options: ") == len(names)
    assert printed.count("  from: ") >= 16
