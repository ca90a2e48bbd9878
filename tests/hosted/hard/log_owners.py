#!/usr/bin/env python3
"""Every store that is logged goes into the log of the thread that makes it: also in a child of fork and in a new thread, whose first
steps run with their parent's registers.

log_owners.py QUIRE_HARD SHORT_LIVES
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import LONG, outcome  # noqa: E402

DEATHS = "1000" if LONG else "60"


def main():
    quire, short_lives = sys.argv[1:3]
    code, out, errors = outcome([quire, "run", "--memory", "256M", "--", short_lives, "7", DEATHS, "inside"], 300,
                                env=dict(os.environ, QUIRE_HARD="owners"))
    print(*[line for line in out.splitlines() if line.startswith("death")], errors[-1000:], f"exit code {code}", sep="\n")
    return 0 if code == 0 and f"deaths {DEATHS}, of another kind 0" in out else 1


if __name__ == "__main__":
    sys.exit(main())
