"""Prepared data sets: manifest, HDF5 shards, reading, writing, verification."""
