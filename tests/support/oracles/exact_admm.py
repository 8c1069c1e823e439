"""Consensus ADMM whose local problems on quadratics are solved by linear algebra."""

import torch

from fedapm_mpi.algorithms._consensus_admm import RelaxedADMM
from tests.support.oracles.quadratic import DIM_U, DIM_V


class Exact(RelaxedADMM):
    """The plain method of multipliers: v_i and u_i by one linear solve."""

    def __init__(self, **options):
        super().__init__(**{"units": "weighted"} | options)

    def solve(self, u_server, anchor, client, problem, weight):
        if getattr(problem, "solved_for", None) != (self.rho, weight):
            if not hasattr(problem, "whole"):
                problem.whole = affine(problem)
            slope, offset = problem.whole
            matrix = weight * slope
            matrix[:DIM_U, :DIM_U] += self.rho * torch.eye(DIM_U, dtype=torch.float64)
            problem.factors = torch.linalg.lu_factor(matrix)
            problem.target = -weight * offset[:, None]
            problem.solved_for = (self.rho, weight)
        target = problem.target.clone()
        target[:DIM_U, 0] += self.rho * anchor - client["dual"]
        found = torch.linalg.lu_solve(*problem.factors, target)[:, 0]
        client["shared"].copy_(found[:DIM_U])
        client["personal"].copy_(found[DIM_U:])


def affine(problem):
    """Return the matrix and the constant of a problem's gradient."""
    points = torch.cat([torch.zeros(1, DIM_U + DIM_V), torch.eye(DIM_U + DIM_V)])
    slopes = []
    for point in points:
        problem.shared.copy_(point[:DIM_U])
        problem.personal.copy_(point[DIM_U:])
        slopes.append(problem.full_gradient("both").clone())
    return torch.stack(slopes[1:], dim=1) - slopes[0][:, None], slopes[0]
