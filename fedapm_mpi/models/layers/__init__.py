"""Building blocks that several models share; not models themselves."""
