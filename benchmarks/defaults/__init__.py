"""The study that the default options of the algorithms come from."""
