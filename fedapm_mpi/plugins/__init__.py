"""A user's own plug-ins: loading them and locating their errors."""
