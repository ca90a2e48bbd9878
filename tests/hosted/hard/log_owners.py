#!/usr/bin/env python3
"""Every store that is logged goes into the log of the thread that makes it: also in a child of fork and in a new thread, whose first
steps run with their parent's registers.

log_owners.py QUIRE_HARD SHORT_LIVES
"""
import os
import subprocess
import sys

DEATHS = "1000" if os.environ.get("QUIRE_LONG") else "60"


def main():
    quire, short_lives = sys.argv[1:3]
    run = subprocess.run([quire, "run", "--memory", "256M", "--", short_lives, "7", DEATHS, "inside"], stdin=subprocess.DEVNULL,
                         env=dict(os.environ, QUIRE_HARD="owners"), capture_output=True, text=True, timeout=300, check=False)
    print(run.stdout[-300:], run.stderr[-1000:], f"exit code {run.returncode}")
    return 0 if run.returncode == 0 and f"deaths {DEATHS}, of another kind 0" in run.stdout else 1


if __name__ == "__main__":
    sys.exit(main())
