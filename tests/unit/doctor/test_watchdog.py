"""A process that hangs reports where, and ends."""

import subprocess
import sys


def test_a_process_that_hangs_says_where_and_ends():
    code = (
        "import time\n"
        "from fedapm_mpi.doctor import watchdog as watch\n"
        "watch.LAST_RANK_DELAY = 0.2\n"
        "watch = watch.Watchdog(60)\n"
        "watch.set_rank(3, 4, lambda code: time.sleep(60))\n"  # the end hangs as well
        "watch.step('sum', 0.1)\n"
        "time.sleep(60)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 2
    assert "rank 3 of 4 on" in done.stderr
    assert "has been at 'sum' for 0.1 s" in done.stderr
