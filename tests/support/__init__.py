"""What several test files share: oracles, data, processes, a user's own plug-ins."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""

TESTS = ROOT / "tests"

PLUGINS = TESTS / "support" / "plugins"
"""On the path as a user's own modules would be."""

PROCESSES = TESTS / "support" / "processes"
"""Programs that tests start."""
