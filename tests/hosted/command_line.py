#!/usr/bin/env python3
"""The command line of the built program: what it prints, and its exit codes 125, 126, 127 and 128 + n."""
import os
import sys
import tempfile

from harness import QUIRE, outcome, summary

PLAIN = os.path.join(tempfile.gettempdir(), f"quire-plain-{os.getpid()}")

# (arguments, exit code, words that must stand in what it prints)
CASES = [
    ([], 125, ["Usage", "run", "lab"]),
    (["--help"], 0, ["Usage", "run", "Exit codes"]),
    (["--version"], 0, ["quire 0."]),
    (["--man"], 0, [".TH QUIRE 1", "folio"]),
    (["frobnicate"], 125, ["unknown command 'frobnicate'"]),
    (["run"], 125, ["which program?"]),
    (["run", "--help"], 0, ["--memory SIZE", "--folio-max", "125"]),
    (["run", "--memory", "lots", "true"], 125, ["'lots' is not a size", "64M"]),
    (["run", "--memory", "1M", "true"], 125, ["out of range"]),
    (["run", "--memroy", "64M", "true"], 125, ["did you mean --memory?"]),
    (["run", "--swap", "/nonexistent/dir/x:64M", "true"], 125, ["/nonexistent/dir/x", "No such file"]),
    (["run", "--swap", "/dev/null:64M", "true"], 125, ["/dev/null"]),
    (["run", "--swap", "zstd:64M,level=9", "true"], 125, ["--swap", "1 to 3"]),
    (["run", "--swap", "zstd:64M,fast", "true"], 125, ["'fast'", "pri=N", "level=N"]),
    (["run", "--swap", "zstd:64M,level=1,pri=5", "cat", "/proc/swaps"], 0, ["/dev/zram0-zstd", "65536", "5"]),
    (["run", "--swap", "64M", "cat", "/proc/swaps"], 0, ["zram0", "65536"]),
    (["run", "--", "/nonexistent/program"], 127, ["/nonexistent/program"]),
    (["run", "--", "nonexistent-program"], 127, ["nonexistent-program"]),
    (["run", "--", PLAIN], 126, [PLAIN]),
    (["run", "--", "/"], 126, ["/"]),
    (["run", "--memory", "64M", "--", "true"], 0, []),
    (["run", "--", "false"], 1, []),
    (["run", "--memory=10%", "--aslr", "off", "--seed", "7", "--", "sh", "-c", "exit 42"], 42, []),
    (["run", "--", "sh", "-c", "kill -9 $$"], 137, []),
    (["run", "--", "sh", "-c", "kill -TERM $$"], 143, []),
    (["run", "--log", "/nonexistent/directory/log", "--", "true"], 125, ["/nonexistent/directory/log"]),
]


def main():
    passed = failed = 0
    with open(PLAIN, "w", encoding="ascii") as f:
        f.write("not a program\n")
    os.chmod(PLAIN, 0o600)
    for arguments, code, words in CASES:
        got, out, errors = outcome([QUIRE, *arguments], 30)
        text = out + errors
        missing = [w for w in words if w not in text]
        if got == code and not missing:
            passed += 1
            continue
        failed += 1
        print(f"FAILED quire {' '.join(arguments)}: exit code {got}, not {code}" if got != code else
              f"FAILED quire {' '.join(arguments)}: does not say {missing}")
        print("    " + "\n    ".join(text.splitlines()[:6]))
    os.unlink(PLAIN)
    return summary(passed, failed)


if __name__ == "__main__":
    sys.exit(main())
