# Environment that an MPI launcher needs to run a few ranks on this machine, as root, and
# on fewer cores than ranks. Source it, then: mpi_environment LAUNCHER
#
# Nothing that is already set is changed. MPICH needs none of it.

mpi_environment() {
  # The ranks are the parallelism; a thread pool in each would only fight over cores.
  export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

  case "$("$1" --version 2>/dev/null)" in
    *"Open MPI"* | *OpenRTE* | *PRRTE* | *prte*) ;;
    *) return 0 ;;
  esac

  if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT:-1}"
    export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM:-1}"
  fi
  # More ranks than cores, and no rank bound to a core: release 5, then release 4.
  export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
  export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"
  export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
  export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"

  # The wheel looks for fast networks for a second and complains of what it finds; it
  # is here for one machine. A cluster's own Open MPI keeps its networks.
  if [ -e "$(dirname "$1")/activate" ]; then
    export OMPI_MCA_pml="${OMPI_MCA_pml:-ob1}"
    export OMPI_MCA_btl="${OMPI_MCA_btl:-^uct,ofi}"
    export OMPI_MCA_mtl="${OMPI_MCA_mtl:-^ofi}"
    export OMPI_MCA_osc="${OMPI_MCA_osc:-^ucx}"
  fi
}
