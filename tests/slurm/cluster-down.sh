#!/usr/bin/env bash
# Stop the SLURM that cluster-up.sh started in DIRECTORY, with all its jobs.
#
# It ends the processes that wrote their numbers in DIRECTORY, and step daemons whose
# environment names DIRECTORY's slurm.conf; no others.
set -euo pipefail

box="${1:?usage: cluster-down.sh DIRECTORY}"
[ -d "$box/run" ] || exit 0
box="$(cd "$box" && pwd)"
export SLURM_CONF="$box/slurm.conf"

is() { # PID NAME: whether that process is alive and called so
  [ -n "$1" ] && [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ]
}

cancel_jobs() {
  timeout 10 scancel --user=root --signal=KILL 2>/dev/null || true
  timeout 10 scancel --user=root 2>/dev/null || true
  for _ in $(seq 50); do
    [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || return 0
    sleep 0.1
  done
}

find_daemons() { # before they are asked to end: they remove their files early
  local file name
  daemons=()
  for file in "$box"/run/*.pid; do
    [ -e "$file" ] || continue
    name="$(basename "$file")"
    daemons+=("$(cat "$file") ${name%%.*}")
  done
}

signal_daemons() { # SIGNAL: send it to every daemon; report whether there was any
  local pid name found=1
  for daemon in "${daemons[@]}"; do
    read -r pid name <<<"$daemon"
    if is "$pid" "$name"; then
      found=0
      kill "-$1" "$pid" 2>/dev/null || true
    fi
  done
  return "$found"
}

end_steps() {
  local process
  for process in /proc/[0-9]*; do
    if is "${process#/proc/}" slurmstepd &&
      tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qxF "SLURM_CONF=$SLURM_CONF"; then
      kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
  done
}

cancel_jobs
find_daemons
# All at once, since each takes two seconds; then those that are left.
signal_daemons TERM || true
for _ in $(seq 50); do
  signal_daemons 0 || break
  sleep 0.1
done
signal_daemons KILL || true
end_steps
rm -rf "$box"/{state,run,pmix} "$box"/spool.*
