"""Ways to make clients differ in what they see or how they name it, one a file."""

from data_prep.shifts.base import Clients, Shifted, shifts

__all__ = ["Clients", "Shifted", "shifts"]
