#!/usr/bin/env python3
"""Random memory system calls and accesses: the same streams natively and under Quire must print the same.

tests/callgen makes the streams and prints one line per step: the errno or value of each call, bytes read, hashes of
contents, the mappings, what is resident.  They run natively, as a guest (one process, a ring of processes that share and
fork, processes and threads side by side), and on the simulated machine.  Where folios may be large, what is resident has
bounds.  A stream that differs is cut down to the steps it needs, and printed with how to replay it.

Environment: QUIRE (the program), QUIRE_LONG=1 (a million calls of each kind instead of 50 000), QUIRE_SEED, QUIRE_CALLS.
Usage: callgen.py [--quire PATH] [--program PATH] [--seed N] [--calls N] [--steps N] [--mode WORDS]... [--keep-going]
       callgen.py --native ...           natively twice: the generator's own test
The last line is 'N passed, N failed': ways of running (modes), not streams.
"""
import argparse
import concurrent.futures
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from harness import LONG, QUIRE, run_session, summary

# How a stream runs: the program's words.  "rss" needs folios of one page; "sim": on the simulated machine.
AS_GUEST = ["one rss", "ring", "one ordinary", "race", "one", "threads", "ring rss", "ring ordinary", "one rss ordinary",
            "threads rss", "threads ordinary", "race ordinary", "one folios", "ring folios"]
SIMULATED = ["one rss sim", "ring sim", "one ordinary sim", "ring folios sim", "ring rss sim", "ring ordinary sim", "one sim",
             "one folios sim", "ring rss ordinary sim"]
# Streams that differed once.
FOUND = [("threads ordinary", 26), ("ring sim", 58), ("one", 152), ("one ordinary", 177), ("ring rss", 115), ("threads", 102),
         ("ring ordinary", 174), ("one rss ordinary", 23), ("race ordinary", 135), ("one", 187), ("one rss", 379), ("one folios", 419),
         ("ring folios", 462), ("one", 691), ("ring rss", 987), ("threads ordinary", 711), ("race", 20199)]
RESIDENT = re.compile(r" rss (\d+) anon (\d+) swap 0 limit (\d+)")
HOST_TRIES = 3
STEP = re.compile(r"^(?:p\d+ )?(\d+) ")


def within_bounds(native, quire):
    """With large folios more may be resident than natively, up to a limit."""
    a, b = RESIDENT.search(native), RESIDENT.search(quire)
    if not a or not b or RESIDENT.sub("", native) != RESIDENT.sub("", quire):
        return False
    rss, anon, most = (int(n) for n in a.groups())
    return rss <= int(b.group(1)) <= max(most, rss) and anon <= int(b.group(2)) <= max(most - rss, 0) + anon


class Runner:
    """Runs one stream on either side, in a directory of its own."""

    def __init__(self, options, top, name):
        self.options, self.directory, self.calls = options, os.path.join(top, name), 0
        os.makedirs(self.directory, mode=0o777, exist_ok=True)
        os.chmod(self.directory, 0o777)

    def run(self, under_quire, seed, steps, mode, keep=None, verbose=False):
        """(exit code, lines)"""
        files = os.path.join(self.directory, "files")
        shutil.rmtree(files, ignore_errors=True)
        os.makedirs(files)
        os.chmod(files, 0o777)
        argv = [self.options.program, str(seed), str(steps), *mode.split(), f"dir={files}"]
        if keep is not None:
            path = os.path.join(self.directory, "keep")
            with open(path, "w", encoding="ascii") as f:
                f.write("".join("1" if i in keep else "0" for i in range(steps)))
            os.chmod(path, 0o644)
            argv.append(f"keep={path}")
        if verbose:
            argv.append("verbose")
        if under_quire and "sim" in mode.split():
            argv[0] += "_sim"
        elif under_quire and not self.options.native:
            argv = [self.options.quire, "run", "--memory", "1G", *(["--folio-max", "4K"] if "rss" in mode else []), "--", *argv]
        with tempfile.TemporaryFile() as out:
            code = run_session(argv, self.options.timeout, cwd=self.directory, stdout=out, stderr=subprocess.STDOUT,
                               env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
            out.seek(0)
            return code, out.read().decode("utf-8", "replace").splitlines()

    def differs(self, seed, steps, mode, keep=None, verbose=False):
        """None, or (where, native's line, quire's line).  self.calls: how many calls the stream made."""
        native = self.run(False, seed, steps, mode, keep, verbose)
        self.calls = calls_of(native[1])
        quire = self.run(True, seed, steps, mode, keep, verbose)
        # The host may do things of its own accord, such as reclaim: what it does not do each time need not be done.
        for _ in range(HOST_TRIES):
            difference = self.first_difference(native, quire)
            if not difference:
                break
            native = self.run(False, seed, steps, mode, keep, verbose)
        return difference

    def first_difference(self, native, quire):
        for i in range(max(len(native[1]), len(quire[1]))):
            a = native[1][i] if i < len(native[1]) else f"(ended with {native[0]})"
            b = quire[1][i] if i < len(quire[1]) else f"(ended with {quire[0]})"
            if a != b and not within_bounds(a, b):
                return i, a, b
        return None if native[0] == quire[0] else (len(native[1]), f"exit {native[0]}", f"exit {quire[0]}")


def step_number(difference, steps):
    for line in difference[1:]:
        match = STEP.match(line)
        if match:
            return int(match.group(1))
    return steps - 1


def minimise(runner, seed, steps, mode, first, seconds):
    """The steps a divergence needs: delta debugging on their numbers, for a bounded time."""
    end = time.monotonic() + seconds
    keep = list(range(min(first + 1, steps)))
    if not runner.differs(seed, steps, mode, set(keep)):
        keep = list(range(steps))
    chunk = max(len(keep) // 2, 1)
    while time.monotonic() < end:
        at = 0
        while at < len(keep) and time.monotonic() < end:
            rest = keep[:at] + keep[at + chunk:]
            if rest and runner.differs(seed, steps, mode, set(rest)):
                keep = rest
            else:
                at += chunk
        if chunk == 1:
            break
        chunk = max(chunk // 2, 1)
    return keep


def report(runner, seed, steps, mode, keep, print_lock):
    difference = runner.differs(seed, steps, mode, set(keep), True) or runner.differs(seed, steps, mode, set(keep))
    native = runner.run(False, seed, steps, mode, set(keep), True)[1]
    quire = runner.run(True, seed, steps, mode, set(keep), True)[1]
    with print_lock:
        print(f"DIFFERS: seed {seed}, {steps} steps, {mode}: needs {len(keep)} steps: {','.join(map(str, keep))}")
        if not difference:
            print("  the shortened stream agrees now: timing")
            return
        start = difference[0]
        while start > 0 and not STEP.match(native[min(start, len(native) - 1)]):
            start -= 1
        for line in native[:start][-200:]:
            print("    " + line)
        print("  native:\n" + "\n".join("    " + line for line in native[start:start + 24]))
        print("  quire:\n" + "\n".join("    " + line for line in quire[start:start + 24]), flush=True)


def calls_of(lines):
    match = re.match(r"calls (\d+)$", lines[-1]) if lines else None
    return int(match.group(1)) if match else 0


def run_stream(options, top, mode, seed, print_lock):
    """(mode, calls made, whether it agreed)"""
    workers = 4 if "threads" in mode or "race" in mode else 1
    steps = max(options.steps // workers, 1)
    runner = Runner(options, top, f"{mode.replace(' ', '-')}-{seed}")
    difference = runner.differs(seed, steps, mode)
    if not difference:
        shutil.rmtree(runner.directory, ignore_errors=True)
        return mode, runner.calls, True
    with print_lock:
        print(f"differs: seed {seed}, {steps} steps, {mode}:\n    native {difference[1][:300]}\n    quire  {difference[2][:300]}\n"
              f"    again: tests/hosted/callgen.py --seed {seed} --calls 1 --mode \"{mode}\"", flush=True)
    if options.minimise:
        keep = minimise(runner, seed, steps, mode, step_number(difference, steps), options.minimise)
        report(runner, seed, steps, mode, keep, print_lock)
    return mode, 0, False


def streams_of(options, modes):
    """(mode, seed) for ever: what differed once, then all modes in turn."""
    if not options.mode:
        yield from ((mode, seed) for mode, seed in FOUND if mode in modes)
    for seed in itertools.count(options.seed):
        yield modes[(seed - options.seed) % len(modes)], seed


def run_streams(options, top, what, modes):
    """Streams until enough calls were made.  {mode: good}"""
    source = streams_of(options, modes)
    start, calls, streams, good, print_lock = time.monotonic(), 0, 0, {}, threading.Lock()
    with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        pending = set()
        while calls < options.calls or pending:
            while calls + len(pending) * options.steps < options.calls and len(pending) < options.j and \
                    (options.keep_going or all(good.values())):
                pending.add(pool.submit(run_stream, options, top, *next(source), print_lock))
                streams += 1
            if not pending:
                break
            done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for job in done:
                mode, made, agreed = job.result()
                calls += made or options.steps
                good[mode] = good.get(mode, True) and agreed
    print(f"{what}: {calls} calls in {streams} streams, {time.monotonic() - start:.0f} s; "
          f"{len(good) - sum(good.values())} of {len(good)} modes differ", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quire", default=QUIRE)
    parser.add_argument("--program")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("QUIRE_SEED", "1")))
    parser.add_argument("--calls", type=int, default=int(os.environ.get("QUIRE_CALLS", "1000000" if LONG else "50000")))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--mode", action="append")
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("--minimise", type=float, default=60, help="seconds to spend on shortening a stream; 0: do not")
    parser.add_argument("--timeout", type=float, default=150)
    parser.add_argument("-j", type=int, default=2)
    options = parser.parse_args()
    options.quire = os.path.abspath(options.quire)
    options.program = os.path.abspath(options.program or os.path.join(os.path.dirname(options.quire), "tests", "callgen", "callgen"))
    groups = {"as asked": options.mode} if options.mode else {"as a guest": AS_GUEST, "on the simulated machine": SIMULATED}
    if os.uname().release.split(".")[:2] != ["6", "18"]:
        print("skipped: the answers are those of Linux 6.18, this host runs another kernel")
        print("0 passed, 0 failed")
        return 0
    results = []
    with tempfile.TemporaryDirectory(prefix="quire-callgen-") as top:
        os.chmod(top, 0o755)
        for what, modes in groups.items():
            modes = [m for m in modes if os.geteuid() == 0 or "ordinary" not in m]
            results += run_streams(options, top, what, modes).values()
    return summary(sum(results), len(results) - sum(results))


if __name__ == "__main__":
    sys.exit(main())
