"""The commands of ``fedapm``, one a file."""
