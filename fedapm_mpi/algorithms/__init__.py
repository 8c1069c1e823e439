"""Federated algorithms, one a file."""

from .base import Algorithm, ClientState, LocalProblem, Round, Work, algorithms

__all__ = ["Algorithm", "ClientState", "LocalProblem", "Round", "Work", "algorithms"]
