#!/usr/bin/env python3
"""What guests are refused, or get by copying, and that the machine's log says so once.  The last line is 'N passed, N failed'."""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
QUIRE = os.path.abspath(os.environ.get("QUIRE", os.path.join(ROOT, "build", "quire")))
PROGRAM = os.path.join(os.path.dirname(QUIRE), "tests", "programs", "refused_calls")
WORDS = ("seccomp refused", "io_uring_setup refused", "io_setup refused", "userfaultfd refused", "ptrace refused", "vmsplice copies",
         "SO_ZEROCOPY refused")


def main():
    passed, failed = 0, []
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        # Two processes: once means once in the life of the machine.
        done = subprocess.run([QUIRE, "run", "--log", log.name, "--", "sh", "-c", f"{PROGRAM} && {PROGRAM}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        said = log.read()
    if done.returncode or done.stdout != "refused or copied\n" * 2:
        failed.append(f"exit code {done.returncode}: {done.stdout} {done.stderr[-500:]}")
    else:
        passed += 1
    for word in WORDS:
        if said.count(word) == 1:
            passed += 1
        else:
            failed.append(f"the log says {said.count(word)} times '{word}', not once: {said[-1500:]}")
    for text in failed:
        print(f"FAILED {text}")
    print(f"{passed} passed, {len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
