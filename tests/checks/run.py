#!/usr/bin/env python3
"""Runs every check of the source tree; the last line is 'N passed, N failed'."""
import sys

import floors
import freestanding
import sizes
import words

CHECKS = [floors, freestanding, sizes, words]


def run(report=print):
    """Returns (passed, failed)."""
    passed = failed = 0
    for module in CHECKS:
        title = module.__doc__.split(":")[0].strip()
        try:
            failures, notes = module.check()
        except Exception as error:  # a check that cannot run has not passed
            failures, notes = [f"the check itself failed: {error!r}"], []
        passed, failed = passed + (not failures), failed + bool(failures)
        report(f"{'FAILED' if failures else 'ok    '} {title}")
        for line in failures + notes:
            report(f"       {line}")
    return passed, failed


if __name__ == "__main__":
    passed, failed = run()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
