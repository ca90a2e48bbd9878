#!/usr/bin/env python3
"""Differential test: each command line natively and under Quire must print the same and end with the same code.

The corpus (corpus.txt) has one command line a line, for bash -c.  Before it may stand, in brackets, comma-separated:
    needs TOOL      skip where TOOL is not installed (several may be named)
    memory SIZE     --memory for the machine (default 1G)
    stderr          compare standard error too
    timeout N       seconds for the Quire run (default 150)
    fails REASON    known to differ under Quire: counted as expected, never as passed; if it agrees, that is a failure
                    (the mark must go)
    long            only with QUIRE_LONG=1
    quire CODE      runs under Quire only and must end with CODE (for what natively would hurt)
In a line $P is the directory of the guest programs and $T a fresh directory, the same path in both runs.

Usage: differential.py [--quire PATH] [--programs DIR] [--native] [--json FILE] [-j N] [CORPUS] [WORD...]
With WORDs only lines that contain one of them run.  --native runs everything natively twice: the corpus's own test.
The last line is 'N passed, N failed'.
"""
import argparse
import concurrent.futures
import json
import os
import re
import shutil
import sys
import tempfile
import time

from harness import LONG, QUIRE, ROOT, run_session, summary

LINE = re.compile(r"^(?:\[([^\]]*)\]\s*)?(.*)$")


class Case:
    """One line of the corpus."""

    def __init__(self, number, text):
        options, self.command = LINE.match(text).groups()
        self.number, self.needs, self.memory, self.stderr = number, [], "1G", False
        self.timeout, self.fails, self.long, self.quire_code = 150, None, False, None
        for option in filter(None, (o.strip() for o in (options or "").split(","))):
            word, _, rest = option.partition(" ")
            if word == "needs":
                self.needs += rest.split()
            elif word == "memory":
                self.memory = rest
            elif word == "stderr":
                self.stderr = True
            elif word == "timeout":
                self.timeout = int(rest)
            elif word == "fails":
                self.fails = rest or "no reason given"
            elif word == "long":
                self.long = True
            elif word == "quire":
                self.quire_code = int(rest)
            else:
                raise SystemExit(f"corpus line {number}: no option '{word}'")

    def missing(self):
        return [tool for tool in self.needs if not shutil.which(tool)]


def read_corpus(path, words):
    with open(path, encoding="utf-8") as f:
        cases = [Case(n, line.rstrip("\n")) for n, line in enumerate(f, 1) if line.strip() and not line.startswith("#")]
    return [c for c in cases if not words or any(w in c.command for w in words)]


def run(argv, directory, programs, timeout):
    """Runs a command in its own session.  Returns (code, stdout, stderr, seconds); code is "timeout" when cut off."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    # Python by its real path: version managers' shims are shell scripts that would be measured instead.
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": directory, "LC_ALL": "C",
           "TZ": "UTC", "P": programs, "T": directory, "TMPDIR": directory, "TERM": "dumb"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = run_session(argv, timeout, cwd=directory, env=env, stdout=out, stderr=err)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read())
    if isinstance(code, int) and code < 0:
        code = 128 - code  # as a shell would say it
    return code, texts[0], texts[1], time.monotonic() - start


def clip(data, limit=600):
    text = data.decode("utf-8", "replace")
    return text if len(text) <= limit else text[:limit // 2] + "\n[...]\n" + text[-limit // 2:]


def first_difference(a, b):
    left, right = a.decode("utf-8", "replace").splitlines(), b.decode("utf-8", "replace").splitlines()
    for i in range(max(len(left), len(right))):
        x = left[i] if i < len(left) else "(nothing)"
        y = right[i] if i < len(right) else "(nothing)"
        if x != y:
            return f"line {i + 1}: native '{x[:200]}'  quire '{y[:200]}'"
    return "the bytes differ"


def judge(case, native, quire):
    """What differs, or None."""
    if quire[0] != native[0]:
        detail = clip(quire[2], 400).strip()
        return f"exit code: native {native[0]}, quire {quire[0]}" + (f"; it said: {detail}" if detail else "")
    if native[1] != quire[1]:
        return "output: " + first_difference(native[1], quire[1])
    if case.stderr and native[2] != quire[2]:
        return "standard error: " + first_difference(native[2], quire[2])
    return None


def run_case(case, options, directory):
    shell = ["/bin/bash", "-c", case.command]
    under = shell if options.native else [options.quire, "run", "--memory", case.memory, "--", *shell]
    result = {"line": case.number, "command": case.command}
    missing = case.missing()
    if missing or (case.long and not LONG):
        return dict(result, verdict="skipped", why="not installed: " + " ".join(missing) if missing else "only with --long")
    if case.quire_code is not None:
        if options.native:
            return dict(result, verdict="skipped", why="not for native runs")
        quire = run(under, directory, options.programs, case.timeout)
        difference = None if quire[0] == case.quire_code else \
            f"exit code {quire[0]} instead of {case.quire_code}; it said: {clip(quire[2], 400).strip()}"
        native = (case.quire_code, b"", b"", 0)
    else:
        native = run(shell, directory, options.programs, case.timeout)
        quire = run(under, directory, options.programs, case.timeout)
        difference = judge(case, native, quire)
        if native[0] == "timeout":
            difference = "ran out of time natively"
    result.update(native_seconds=round(native[3], 3), quire_seconds=round(quire[3], 3), code=native[0])
    if case.fails:
        return dict(result, verdict="expected" if difference else "failed",
                    why=case.fails if difference else f"agrees now: take away the mark 'fails {case.fails}'")
    return dict(result, verdict="failed" if difference else "passed", why=difference)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quire", default=QUIRE)
    parser.add_argument("--programs", default=os.environ.get("QUIRE_PROGRAMS", ""))
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("-j", type=int, default=2)
    parser.add_argument("corpus", nargs="?", default=os.path.join(ROOT, "tests", "hosted", "corpus.txt"))
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if not os.path.isfile(options.corpus):
        options.words.insert(0, options.corpus)
        options.corpus = os.path.join(ROOT, "tests", "hosted", "corpus.txt")
    options.quire = os.path.abspath(options.quire)
    options.programs = os.path.abspath(options.programs or os.path.join(os.path.dirname(options.quire), "tests", "programs"))
    cases = read_corpus(options.corpus, options.words)
    results = []
    with tempfile.TemporaryDirectory(prefix="quire-diff-") as top:
        with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
            jobs = [pool.submit(run_case, c, options, os.path.join(top, str(c.number))) for c in cases]
            for job in concurrent.futures.as_completed(jobs):
                result = job.result()
                results.append(result)
                if result["verdict"] == "failed":
                    print(f"DIFFERS line {result['line']}: {result['command']}\n    {result['why']}", flush=True)
    results.sort(key=lambda r: r["line"])
    counts = {v: sum(r["verdict"] == v for r in results) for v in ("passed", "failed", "expected", "skipped")}
    for result in results:
        if result["verdict"] in ("expected", "skipped"):
            word = "expected to fail" if result["verdict"] == "expected" else "skipped"
            print(f"{word}: line {result['line']}: {result['command'][:70]}: {result['why']}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump({"counts": counts, "results": results}, f, indent=1)
    print(f"{counts['expected']} expected to fail, {counts['skipped']} skipped")
    return summary(counts["passed"], counts["failed"])


if __name__ == "__main__":
    sys.exit(main())
