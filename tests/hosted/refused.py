#!/usr/bin/env python3
"""What guests are refused, or get by copying, and that the machine's log says so once.  The last line is 'N passed, N failed'."""
import os
import sys

from harness import PROGRAMS, run_logged, summary

PROGRAM = os.path.join(PROGRAMS, "refused_calls")
WORDS = ("seccomp refused", "io_uring_setup refused", "io_setup refused", "userfaultfd refused", "ptrace refused", "vmsplice copies",
         "SO_ZEROCOPY refused")


def main():
    passed, failed = 0, []
    # Two processes: once means once in the life of the machine.
    code, out, errors, said = run_logged("--", "sh", "-c", f"{PROGRAM} && {PROGRAM}")
    if code or out != "refused or copied\n" * 2:
        failed.append(f"exit code {code}: {out} {errors[-500:]}")
    else:
        passed += 1
    for word in WORDS:
        if said.count(word) == 1:
            passed += 1
        else:
            failed.append(f"the log says {said.count(word)} times '{word}', not once: {said[-1500:]}")
    for text in failed:
        print(f"FAILED {text}")
    return summary(passed, len(failed))


if __name__ == "__main__":
    sys.exit(main())
