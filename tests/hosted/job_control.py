#!/usr/bin/env python3
"""Job control from a terminal: ^Z, fg and ^C on `quire run` as a job of a shell, and inside a shell that is the guest.

An interactive bash under a pseudo-terminal is typed to as a person would.  The last line is 'N passed, N failed'.
"""
import os
import pty
import select
import sys
import time

from harness import QUIRE, eventually, stat, summary

PATIENCE = 60.0  # seconds for an answer on a loaded machine


class Terminal:
    def __init__(self):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["PS1"] = "prompt> "
            os.environ["TERM"] = "dumb"
            os.execvp("bash", ["bash", "--norc", "-i"])
        self.text = ""

    def read_until(self, wanted, since):
        """True when `wanted` appears in what was printed after position `since`."""
        end = time.monotonic() + PATIENCE
        while wanted not in self.text[since:] and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.text += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:
                    break
        return wanted in self.text[since:]

    def type(self, keys, wanted):
        since = len(self.text)
        os.write(self.fd, keys.encode())
        return self.read_until(wanted, since)


def wait_for_child(comm, seconds=PATIENCE):
    """Until a process of that name runs in the terminal (so that keys reach it, not the shell)."""
    def runs(pid):
        s = stat(pid)
        return s and s.name == comm and s.state in "SR" and s.terminal
    return eventually(lambda: any(runs(pid) for pid in filter(str.isdigit, os.listdir("/proc"))), seconds)


def main():
    passed, failed = 0, []

    def check(what, ok):
        nonlocal passed
        if ok:
            passed += 1
        else:
            failed.append(what)

    t = Terminal()
    check("prompt", t.read_until("prompt> ", 0))
    t.type(f"{QUIRE} run sleep 98.7654\n", "run sleep")
    check("the guest runs", wait_for_child("sleep"))
    time.sleep(0.3)
    check("^Z stops the job", t.type("\x1a", "Stopped"))
    check("jobs lists it", t.type("jobs\n", "Stopped"))
    t.type("fg\n", "run sleep")
    wait_for_child("sleep")
    time.sleep(0.3)
    check("^C ends it after fg", t.type("\x03", "prompt> "))
    check("exit code 130", t.type("echo code=$?\n", "code=130"))

    check("a shell as guest", t.type(f"PS1='inner> ' {QUIRE} run bash --norc -i\n", "inner> "))
    os.write(t.fd, b"sleep 97.6543\n")
    check("a job inside runs", wait_for_child("sleep"))
    time.sleep(0.3)
    check("^Z inside", t.type("\x1a", "Stopped"))
    os.write(t.fd, b"fg\n")
    wait_for_child("sleep")
    time.sleep(0.3)
    check("^C inside comes back to the inner shell", t.type("\x03", "inner> "))
    check("exit code of the inner job", t.type("echo code=$?\n", "code=130"))
    check("exit", t.type("exit 3\n", "prompt> "))
    check("exit code of the machine", t.type("echo code=$?\n", "code=3"))
    check("the terminal echoes", t.type("stty -a | tr ';' '\\n' | grep -c '[^-]echo '\n", "1"))
    os.write(t.fd, b"exit\n")
    for what in failed:
        print(f"FAILED {what}")
    if failed:
        print(t.text[-3000:])
    return summary(passed, len(failed))


if __name__ == "__main__":
    sys.exit(main())
