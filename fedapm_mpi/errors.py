"""Errors that are reported to the user, and the exit codes of the program."""

EXIT_RESUMABLE = 75
"""Exit code of a run that stopped early and can be continued with ``--resume``."""


class FedAPMError(Exception):
    """Base class of every error that this package raises on purpose.

    Attributes
    ----------
    exit_code
        Status with which the command line ends.
    agreed
        Whether all ranks raise it together, so that they can shut down without an
        abort.
    trace
        The traceback of what caused it, as text, where debugging is on; unlike the
        cause itself it reaches other ranks.
    """

    exit_code = 70
    agreed = False
    trace = ""


class ConfigError(FedAPMError):
    """A configuration or a command line that cannot be run as written."""

    exit_code = 2


class DataError(FedAPMError):
    """A data set that is missing, damaged, or not what its manifest says."""

    exit_code = 3


class TrainingError(FedAPMError):
    """A run that cannot continue, such as one whose loss is no longer finite."""


class WriteError(FedAPMError):
    """A file of the run that cannot be written, say because the disk is full."""


class LockError(ConfigError):
    """A run directory that another job owns."""


class CheckpointError(FedAPMError):
    """A checkpoint that is missing or damaged."""


class SubmitError(FedAPMError):
    """A job that SLURM refuses."""


class PointError(FedAPMError):
    """A point of a scaling study that did not finish; it exits as its run did."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
