"""Configurations: schema, loading, validation, overrides."""
