"""Which instructions the numerical libraries use, chosen before they are loaded.

Left alone (``native``) they use what the processor has, and the last bits of their
results differ between processors. With ``portable`` they use the same instructions, in
the same order, on every x86-64 processor with AVX2 and FMA, as their own switches tell
them: environment variables that each reads once. This module imports none of them.
"""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

from fedapm_mpi.errors import ConfigError

NATIVE = "native"
PORTABLE = "portable"
KERNELS = (NATIVE, PORTABLE)

SWITCHES = {
    # The only branch of MKL that is promised off Intel; SSE2, no approximations.
    "MKL_CBWR": "COMPATIBLE",
    # Of its vector functions that branch is not the same everywhere; 3 is AVX2's.
    "MKL_VML_DEBUG_CPU_TYPE": "3",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT",
    # The names of NumPy before 2.4, and since; others than its own are ignored.
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
    "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""The switches of MKL, torch, oneDNN, NumPy, and OpenBLAS, which NumPy has inside."""

OTHERS = (
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_DEBUG_CPU_TYPE",
    "DNNL_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_CPU_ISA_HINTS",
    "NPY_ENABLE_CPU_FEATURES",
)
"""Further variables that would choose instructions; with ``portable`` none is set."""

LIBRARIES = ("numpy", "torch")
"""Modules before which the switches must be set."""

FLAGS = ("avx2", "fma")
"""What a processor needs; the C library also chooses its functions by them."""

X86_64 = ("x86_64", "AMD64")

_here = False
"""Whether `use_portable` has set the switches in this process."""


def use(kernels: str) -> None:
    """Set the switches if portable kernels are asked for; see `use_portable`."""
    if kernels == PORTABLE:
        use_portable()


def use_portable() -> None:
    """Set the switches of portable kernels, for this process and those it starts.

    A program that trains with ``kernels: portable`` by `fedapm_mpi.train` calls this
    first of all, ``fedapm`` does it itself. What other values the environment has for
    the switches does not count.

    Raises
    ------
    ConfigError
        If the processor lacks what they need, or NumPy or torch is loaded already
        without them.
    """
    global _here
    lacking = processor_lacks()
    if lacking is not None:
        raise ConfigError(refused(lacking))
    if in_force():
        return
    loaded = [name for name in LIBRARIES if name in sys.modules]
    if loaded:
        raise ConfigError(too_late(loaded))
    os.environ.update(SWITCHES)
    for name in OTHERS:
        os.environ.pop(name, None)
    _here = True


def refused(lacking: str) -> str:
    """Return the error of a process whose processor does not suit.

    Parameters
    ----------
    lacking
        What `processor_lacks` says.
    """
    return (
        f"kernels: portable {lacking} (host {platform.node()}); leave kernels out, or "
        "use other hosts"
    )


def too_late(loaded: list[str]) -> str:
    """Return the error of a process that has loaded libraries without the switches."""
    are, them = ("are", "them") if len(loaded) > 1 else ("is", "it")
    return (
        f"kernels: portable must be chosen before {' and '.join(loaded)} {are} "
        f"imported, and this program has imported {them} already; call "
        "fedapm_mpi.use_portable_kernels() ahead of its other imports, or use fedapm "
        "train with a configuration in a file, not in a pipe"
    )


def chosen_here() -> bool:
    """Return whether `use_portable` has set the switches in this process."""
    return _here


def in_force() -> bool:
    """Return whether the libraries of this process have, or will have, the switches.

    Either `use_portable` has set them in time, or the process was started with them.
    """
    if _here:
        return True
    begun = initial_environment()
    return all(begun.get(name) == value for name, value in SWITCHES.items()) and all(
        name not in begun for name in OTHERS
    )


def initial_environment(
    path: Path = Path("/proc/self/environ"),
) -> dict[str, str]:
    """Return the variables with which this process was started; none if unknown."""
    with suppress(OSError):
        words = path.read_bytes().split(b"\0")
        pairs = (os.fsdecode(word).partition("=") for word in words)
        return {name: value for name, equals, value in pairs if equals}
    return {}


def processor_lacks(
    machine: str | None = None, cpuinfo: Path = Path("/proc/cpuinfo")
) -> str | None:
    """Return why portable kernels are not promised on this processor, if so.

    Parameters
    ----------
    machine
        Its architecture; by default what Python says.
    cpuinfo
        Linux's description of it.
    """
    found = platform.machine() if machine is None else machine
    if found not in X86_64:
        return f"needs an x86-64 processor, and this is {found or 'unknown'}"
    flags: set[str] = set()
    with suppress(OSError), cpuinfo.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() == "flags":
                flags = set(value.split())
                break
    if not flags:
        return f"needs to know the processor's instructions, which {cpuinfo} lacks"
    lacking = [flag.upper() for flag in FLAGS if flag not in flags]
    if lacking:
        return f"needs a processor with {' and '.join(lacking)}, which this one lacks"
    return None
