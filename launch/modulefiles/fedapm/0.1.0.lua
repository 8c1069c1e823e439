-- A modulefile for Lmod. Put the folder `fedapm` below one in MODULEPATH, set `root`, and
-- name the cluster's own modules that the environment was made with.
local root = os.getenv("FEDAPM_ROOT") or "/path/to/fedapm_mpi"

help([[Personalised federated learning by ADMM over MPI: fedapm --help]])
whatis("Name: fedapm_mpi")
whatis("Version: 0.1.0")
whatis("Description: FedAPM and other federated algorithms, trained over MPI")

-- depends_on("python/3.11", "openmpi/5.0")

prepend_path("PATH", pathJoin(root, ".venv/bin"))
setenv("FEDAPM_VENV", pathJoin(root, ".venv"))
-- One thread for each rank, unless the job says otherwise.
if os.getenv("OMP_NUM_THREADS") == nil then setenv("OMP_NUM_THREADS", "1") end
