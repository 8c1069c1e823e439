"""Whether a cluster, a job and an environment will train well: ``fedapm doctor``.

Each rank collects its `rank_info`, `probes` act on all ranks together, and `checks` are
pure functions from these observations to findings. A new check is one such function.
"""
