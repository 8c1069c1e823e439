"""Whether a cluster, a job and an environment will train well: ``fedapm doctor``.

Each rank tells `facts` of itself, `probes` act on all ranks together, and `checks` are
pure functions that make findings of what was told. A new check is one such function.
"""
