"""Training from Python: two runs, their metrics, and a client's model.

    python examples/python_api.py
    mpiexec -n 3 python examples/python_api.py

Both commands give the digests that ``fedapm train examples/sensors.yaml`` gives with
the same values. The data are those of my_source.py.
"""

import fedapm_mpi
from fedapm_mpi.errors import FedAPMError

EXPERIMENT = "examples/sensors.yaml"


def main() -> None:
    """Train with two penalties and print the accuracy of each."""
    config = fedapm_mpi.load_config(EXPERIMENT, rounds=5)
    for rho in (0.1, 1.0):
        # On every rank, with the same arguments.
        trained = fedapm_mpi.train(config, algorithm={"rho": rho})
        if not is_first_rank():
            continue
        run = fedapm_mpi.load_run(trained.directory)
        accuracy = run.records[-1]["accuracy"]
        print(f"rho {rho}: accuracy {accuracy:.3f}, digest {trained.digest}")
        model = fedapm_mpi.load_client_model(trained.directory, "person-1")
        print(f"  {sum(p.numel() for p in model.parameters())} parameters")
    try:
        fedapm_mpi.load_config(config, roudns=3)
    except FedAPMError as error:  # the sentence of the command line
        if is_first_rank():
            print(error)


def is_first_rank() -> bool:
    """Return whether this process is rank 0, or the only one."""
    from fedapm_mpi.comm.launch_env import launched_rank

    return launched_rank() == 0


if __name__ == "__main__":
    main()
