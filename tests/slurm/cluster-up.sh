#!/usr/bin/env bash
# Start a SLURM of virtual nodes on this one machine, as root and without systemd.
#
#   tests/slurm/cluster-up.sh DIRECTORY
#   . DIRECTORY/env.sh; sinfo        # and later: tests/slurm/cluster-down.sh DIRECTORY
#
# NODES (3), CPUS (4) and MEMORY (4000 MB) are those of the cluster; PORT (26816) and the
# next NODES ports must be free. All it writes is in DIRECTORY, except for the Debian
# packages that it installs where they are missing. Exit code 77: this machine cannot
# have a cluster.
#
# Several clusters can start at once: only one of them installs packages. A node is a
# slurmd with a port, a host name and a /dev/shm of its own, so ranks on two nodes cannot
# share memory by accident.
set -euo pipefail

box="${1:?usage: cluster-up.sh DIRECTORY}"
nodes="${NODES:-3}" cpus="${CPUS:-4}" memory="${MEMORY:-4000}" port="${PORT:-26816}"
pmix="/usr/lib/$(uname -m)-linux-gnu/pmix2/lib"
PATH="$PATH:/usr/sbin"

fail() { # TEXT [CODE]
  echo "cluster-up: $1" >&2
  exit "${2:-1}"
}

install_packages() {
  local missing=() pair
  for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  # For srun --mpi=pmix, which only Open MPI needs.
  [ -e "$pmix/libpmix.so.2" ] || missing+=(libpmix2)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "SLURM is not installed and there is no apt-get" 77
  # The packages must not start a system-wide SLURM.
  local policy=/usr/sbin/policy-rc.d made=no
  if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  get_packages "${missing[@]}" || { apt-get update -qq && get_packages "${missing[@]}"; } ||
    { [ "$made" = no ] || rm -f "$policy"; fail "apt-get cannot install ${missing[*]}" 77; }
  [ "$made" = no ] || rm -f "$policy"
}

get_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    -o DPkg::Lock::Timeout=120 --no-install-recommends "$@" >/dev/null
}

link_pmix() {
  # Debian's PMIx plugin opens libpmix.so, which is in a development package only.
  if [ -e "$pmix/libpmix.so.2" ] && [ ! -e "$pmix/libpmix.so" ]; then
    ln -s libpmix.so.2 "$pmix/libpmix.so"
  fi
}

start_munge() {
  head -c 1024 /dev/urandom >"$box/munge.key"
  chmod 400 "$box/munge.key"
  munged --force --num-threads=2 --key-file="$box/munge.key" \
    --socket="$box/run/munge.sock" --pid-file="$box/run/munged.pid" \
    --log-file="$box/log/munged.log" --seed-file="$box/run/munge.seed"
}

write_configuration() {
  local i
  cat >"$box/slurm.conf" <<CONF
ClusterName=box
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$box/run/munge.sock
CredType=cred/munge
# Files of steps in a folder for all (of pmi2, of PMIx) are named by job only.
FirstJobId=$((100 * port))
StateSaveLocation=$box/state
SlurmdSpoolDir=$box/spool.%n
SlurmctldPidFile=$box/run/slurmctld.pid
SlurmdPidFile=$box/run/slurmd.%n.pid
SlurmctldLogFile=$box/log/slurmctld.log
SlurmdLogFile=$box/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
JobRequeue=1
ReturnToService=2
KillWait=3
CompleteWait=0
InactiveLimit=0
MinJobAge=600
PropagateResourceLimits=NONE
$(for i in $(seq "$nodes"); do
    echo "NodeName=n$i NodeHostname=n$i NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=$cpus CoresPerSocket=$cpus Sockets=1 ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN"
  done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP
CONF
  # Every node mounts a folder of its own over this one: PMIx names its files by job.
  echo "PMIxCliTmpDirBase=$box/pmix" >"$box/mpi.conf"
  {
    cat /etc/hosts
    for i in $(seq "$nodes"); do echo "127.0.0.1 n$i"; done
  } >"$box/hosts"
  echo "export SLURM_CONF='$box/slurm.conf'" >"$box/env.sh"
}

start_node() {
  local name="$1" spool="$box/spool.$1"
  mkdir -p "$spool/pmix"
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --uts --mount --propagation private sh -euc '
    hostname "$1"
    mount --bind "$2/hosts" /etc/hosts
    mount --bind "$3/pmix" "$2/pmix"
    mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
    exec slurmd -N "$1" -c' sh "$name" "$box" "$spool" 2>>"$box/log/slurmd.$name.log"
}

idle_nodes() {
  timeout 5 sinfo --noheader --Node --format=%T 2>/dev/null | grep -c '^idle$' || true
}

[ "$(id -u)" -eq 0 ] || fail "this needs root" 77
unshare --uts --mount true 2>/dev/null || fail "this machine allows no namespaces" 77
mkdir -p "$box"
box="$(cd "$box" && pwd)"
[ ! -e "$box/run/slurmctld.pid" ] || fail "there is a cluster in $box; stop it by cluster-down.sh"
(
  flock 9
  install_packages
  link_pmix
) 9<"$0" # the lock is on this script, and no daemon inherits it
mkdir -p "$box"/{state,log,run,pmix}
export SLURM_CONF="$box/slurm.conf"
start_munge
write_configuration
slurmctld -c -i 2>>"$box/log/slurmctld.log"
for i in $(seq "$nodes"); do start_node "n$i"; done
for _ in $(seq 150); do
  [ "$(idle_nodes)" != "$nodes" ] || exit 0
  sleep 0.1
done
sinfo --Node --long >&2 || true
tail -n 5 "$box"/log/*.log >&2
fail "not all nodes came up"
