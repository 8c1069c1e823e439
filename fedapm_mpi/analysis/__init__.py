"""Tables and figures from finished or unfinished runs."""
