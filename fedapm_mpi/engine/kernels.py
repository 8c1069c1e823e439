"""What the numerical libraries say of the instructions that they use."""

import ctypes
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedapm_mpi.comm import Communicator
from fedapm_mpi.engine.exact_functions import replace_functions
from fedapm_mpi.errors import ConfigError, FedAPMError
from fedapm_mpi.utils import kernels

BRANCHES = {
    1: "off",
    2: "AUTO",
    3: "COMPATIBLE",
    4: "SSE2",
    8: "SSE4_2",
    9: "AVX",
    10: "AVX2",
    12: "AVX512",
    14: "AVX512_E1",
}
"""MKL's numbers of its branches, in ``mkl_types.h``."""

CAPABILITY = "AVX2"
"""What torch reports with portable kernels."""

MKL_BRANCH = "COMPATIBLE, vector functions 3"
"""What MKL reports then."""

SAFE_CHANNELS = 8
"""Input channels from which on every convolution is right; see `check_layers`."""


def open_kernels(wanted: str) -> None:
    """Check that this process uses the kernels that a configuration asks for.

    With portable ones torch also gets those of its functions that no switch governs;
    see `exact_functions`.

    Raises
    ------
    ConfigError
        If they are others: the switches of portable ones were not set in time, or a
        library does not follow them, or it is a native run in a portable process.
    """
    if wanted == kernels.NATIVE:
        if kernels.chosen_here():
            msg = (
                "kernels: native cannot be used in a process that has chosen portable "
                "kernels; start another for it"
            )
            raise ConfigError(msg)
        return
    lacking = kernels.processor_lacks()
    if lacking is not None:
        raise ConfigError(kernels.refused(lacking))
    if not kernels.in_force():
        raise ConfigError(kernels.too_late(list(kernels.LIBRARIES)))
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        msg = (
            f"kernels: portable needs a torch with MKL, and {torch.__version__} was "
            "built without; install one, or leave kernels out"
        )
        raise ConfigError(msg)
    _check_reports()
    replace_functions()


def open_on_ranks(wanted: str, comm: Communicator) -> None:
    """Do as `open_kernels` on every rank; a collective call."""
    error: FedAPMError | None = None
    try:
        open_kernels(wanted)
    except FedAPMError as caught:
        error = caught
    comm.raise_collectively(error)


def check_layers(modules: Iterable[nn.Module]) -> None:
    """Refuse layers that a branch of oneDNN computes with portable kernels wrongly.

    In version 3.12 the gradient of the weights of a strided 1 x 1 convolution of 2 to 7
    channels, stored channels last, overwrites memory behind them; its branch for AVX2
    only. How a model stores its channels is not known before it runs.

    Raises
    ------
    ConfigError
        If a model has such a layer.
    """
    for module in modules:
        for name, layer in module.named_modules():
            if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1):
                continue
            if max(layer.stride) > 1 and 1 < layer.in_channels < SAFE_CHANNELS:
                msg = (
                    f"kernels: portable: layer {name or 'of the model'} is a strided 1 "
                    f"x 1 convolution of {layer.in_channels} channels, which oneDNN "
                    "computes with a fault that ends the process; give it "
                    f"{SAFE_CHANNELS} or more channels, or leave kernels out"
                )
                raise ConfigError(msg)


def _check_reports() -> None:
    """Raise `ConfigError` if a library says that it does not follow its switch."""
    features = numpy_features()
    found = {
        "torch": (torch.backends.cpu.get_cpu_capability(), CAPABILITY),
        "MKL": (mkl_branch() or "what it does not say", MKL_BRANCH),
        "NumPy": (" ".join(_beyond_avx2(features)) or CAPABILITY, CAPABILITY),
    }
    for library, (value, wanted) in found.items():
        if value != wanted:
            msg = (
                f"kernels: portable: {library} uses {value}, not {wanted}, although "
                "its switch was set; leave kernels out, or try another version of it"
            )
            raise ConfigError(msg)


def kernels_in_use(wanted: str) -> dict[str, Any]:
    """Return, for ``provenance.json``, the switches and what the libraries report.

    Parameters
    ----------
    wanted
        What the configuration says.
    """
    names = (*kernels.SWITCHES, *kernels.OTHERS)
    return {
        "kernels": wanted,
        "switches": {name: os.environ[name] for name in names if name in os.environ},
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "mkl_branch": mkl_branch(),
        "numpy_features": numpy_features(),
        "libraries": _libraries(),
        "c_library": " ".join(platform.libc_ver()).strip(),
    }


def _libraries() -> list[str]:
    """Return the lines of torch's own description that name MKL and oneDNN."""
    lines = torch.__config__.show().splitlines()
    names = ("Math Kernel Library", "MKL-DNN")
    return [line.strip(" -") for line in lines if any(name in line for name in names)]


def mkl_branch() -> str | None:
    """Return MKL's branch, by name; `None` where torch has no MKL that says it."""
    path = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(str(path))
        number = int(library.mkl_serv_cbwr_get(1))
        vector = int(library.mkl_vml_serv_cpu_detect())
        return f"{BRANCHES.get(number, number)}, vector functions {vector}"
    return None


def numpy_features() -> list[str] | None:
    """Return the instruction levels NumPy chooses by; `None` where it does not say."""
    with suppress(ImportError, AttributeError):
        from numpy._core import _multiarray_umath as umath  # type: ignore[attr-defined]

        features = umath.__cpu_features__
        return [name for name in umath.__cpu_dispatch__ if features[name]]
    return None


def _beyond_avx2(features: list[str] | None) -> list[str]:
    return [n for n in features or () if n.startswith(("AVX512", "X86_V4"))]
