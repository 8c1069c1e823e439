"""Who the clients are: models, groups, shared parameters, assignment to ranks."""
