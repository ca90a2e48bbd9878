#!/usr/bin/env python3
"""All tests, for `./dev test [--long] [STEP...]`.

Steps: checks (the source tree), unit (gcc), asan (address and undefined-behaviour sanitizers), tsan (thread sanitizer,
the tests that start threads), clang (everything compiled by clang), fuzz (libFuzzer on the program loader), hosted (programs
on the built quire).

Prints one line per step, the output of what failed, and last 'N passed, N failed' alone on its line.  Counted are the
cases of each test program where it names them (cmocka), else the program; a program that crashed or ran out of time is
one failure more.  Nothing that was skipped or is expected to fail is counted as passed.
"""
import argparse
import concurrent.futures
import itertools
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "checks"))
import run as checks  # noqa: E402

JOBS = str(os.cpu_count() or 1)
SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed", re.M)
THREADS = re.compile(r"\b(pthread_create|thrd_create|sim_run|sim_thread_enter)\(")
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
               "TSAN_OPTIONS": "halt_on_error=0:exitcode=66:second_deadlock_stack=1", "CI": "true", "LC_ALL": "C"}
# Under the thread sanitizer a tenth of the model tests' steps: it looks for races, the other runs for wrong results.
TSAN_STEPS = {"QUIRE_OPS": "300000", "QUIRE_STEPS": "300"}


def environment(**more):
    return dict(os.environ, **ENVIRONMENT, **more)


def run_logged(log, command, timeout=None, env=None):
    """Runs a command with its output in a file.  Returns (exit code, output)."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, "wb") as out:
        try:
            code = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                  timeout=timeout, env=env or environment()).returncode
        except subprocess.TimeoutExpired:
            code = 124
    with open(log, encoding="utf-8", errors="replace") as f:
        return code, f.read()


def tail(text, lines=60):
    return "\n".join("    " + line for line in text.splitlines()[-lines:])


def build(directory, options=(), env=None, targets=()):
    """Configures (once) and builds.  Returns whether that worked; says why if not."""
    if not os.path.exists(os.path.join(ROOT, directory, "build.ninja")):
        code, text = run_logged(f"{ROOT}/{directory}/dev-setup.log", ["meson", "setup", directory, *options], env=env)
        if code:
            print(tail(text))
            return False
    # -k 0: one broken target must not hide the others.
    # meson-test-prereq: test programs that an ordinary build leaves out.
    command = ["ninja", "-C", directory, "-j", JOBS, "-k", "0", *(targets or ["all", "meson-test-prereq"])]
    code, text = run_logged(f"{ROOT}/{directory}/dev-build.log", command)
    if code:
        errors = [line for line in text.splitlines() if re.search(r"error|FAILED|undefined reference|warning:", line)]
        print(tail("\n".join(errors) or text))
        print(f"    all of it: {directory}/dev-build.log")
    return code == 0


def count_cases(record):
    """(passed, failed) of one record of meson's testlog.json."""
    text = record.get("stdout", "") + "\n" + (record.get("stderr") or "")
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", text))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (?:\S+: )?(\d+) test", text))
    good = record["result"] in ("OK", "EXPECTEDFAIL")
    if record["result"] == "SKIP":
        return 0, 0
    if good:
        return (passed or 1), failed
    return passed, (failed or 1)


def meson_tests(directory, names=(), timeout_factor=1, with_long=False, env=None):
    """Runs meson's tests.  Returns (passed, failed)."""
    log = f"{ROOT}/{directory}/meson-logs/testlog.json"
    if os.path.exists(log):
        os.unlink(log)
    command = ["meson", "test", "-C", directory, "--no-rebuild", "--num-processes", JOBS, "-t", str(timeout_factor)]
    command += [] if with_long else ["--no-suite", "long"]
    code, text = run_logged(f"{ROOT}/{directory}/dev-test.log", command + list(names), env=env)
    if not os.path.exists(log):
        print(tail(text))
        return 0, 1
    passed = failed = 0
    with open(log, encoding="utf-8", errors="replace") as f:
        records = [json.loads(line) for line in f if line.strip()]
    for record in records:
        good, bad = count_cases(record)
        passed, failed = passed + good, failed + bad
        if bad:
            print(f"  FAILED {directory}: {record['name']} ({record['result']})")
            print(tail(record.get("stdout", "") + "\n" + (record.get("stderr") or "")))
    if code and not failed:
        print(tail(text))
        failed = 1
    return passed, failed


def threaded_tests(directory):
    """Names of the meson tests whose own sources start threads."""
    def introspect(what):
        out = subprocess.run(["meson", "introspect", directory, what], cwd=ROOT, capture_output=True, text=True)
        return json.loads(out.stdout or "[]")
    threaded = set()
    for target in introspect("--targets"):
        for group in target.get("target_sources", []):
            for path in group.get("sources", []):
                if target["type"] != "executable" or not os.path.exists(path):
                    continue
                with open(path, encoding="utf-8") as f:
                    if THREADS.search(f.read()):
                        threaded.update(target["filename"])
    return [(t["name"], os.path.relpath(t["cmd"][0], os.path.join(ROOT, directory))) for t in introspect("--tests")
            if t["cmd"][0] in threaded]


def step_checks(options):
    lines = []
    result = checks.run(lines.append)
    if result[1] or options.verbose:
        print("\n".join("  " + line for line in lines))
    return result


def step_unit(options):
    built = build("build")
    passed, failed = meson_tests("build", with_long=options.long)
    return passed, failed + (not built)


def step_asan(options):
    built = build("build-asan", ["-Db_sanitize=address,undefined", "-Dbuildtype=debugoptimized"])
    passed, failed = meson_tests("build-asan", timeout_factor=4, with_long=options.long)
    return passed, failed + (not built)


def step_tsan(options):
    directory = "build-tsan"
    if not os.path.exists(f"{ROOT}/{directory}/build.ninja"):
        code, text = run_logged(f"{ROOT}/{directory}/dev-setup.log",
                                ["meson", "setup", directory, "-Db_sanitize=thread"])
        if code:
            print(tail(text))
            return 0, 1
    # Sources may have gained tests since the directory was configured.
    subprocess.run(["ninja", "-C", directory, "build.ninja"], cwd=ROOT, capture_output=True, check=False)
    tests = threaded_tests(directory)
    if not tests:
        print("  FAILED tsan: no test starts threads")
        return 0, 1
    built = build(directory, targets=[target for _, target in tests])
    passed, failed = meson_tests(directory, [name for name, _ in tests], 6, options.long,
                                 environment(**({} if options.long else TSAN_STEPS)))
    return passed, failed + (not built)


def step_clang(options):
    good = build("build-clang", ["--werror"], env=environment(CC="clang"))
    return int(good), int(not good)


def hosted_drivers():
    directory = os.path.join(ROOT, "tests", "hosted")
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if name.endswith((".py", ".sh")) and os.access(path, os.X_OK):
            yield name, path


# Runs beside the others, since it mostly waits (for I/O that is slow on purpose).
BESIDE = "swap_errors.py"


def run_driver(name, path, options):
    """Runs one driver; returns (passed, failed) and what to print of it."""
    env = environment(QUIRE=os.path.join(ROOT, "build", "quire"), QUIRE_LONG="1" if options.long else "")
    began = time.monotonic()
    code, text = run_logged(f"{ROOT}/build/dev-{name}.log", [path], timeout=14400 if options.long else 1500, env=env)
    match = None
    for match in SUMMARY.finditer(text):
        pass
    good, bad = (int(match.group(1)), int(match.group(2))) if match else (int(code == 0), 0)
    if code and not bad:
        bad = 1
    lines = [f"  {name}: {good} passed, {bad} failed ({time.monotonic() - began:.0f} s)"]
    lines += ["    " + line for line in text.splitlines() if re.match(r"expected to fail|skipped", line)]
    return good, bad, "\n".join(lines + ([tail(text)] if bad else []))


def step_hosted(options):
    passed = failed = 0
    if not os.path.exists(os.path.join(ROOT, "build", "quire")):
        print("  FAILED hosted: build/quire is not there")
        return 0, 1
    drivers = list(hosted_drivers())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beside = [pool.submit(run_driver, *d, options) for d in drivers if d[0] == BESIDE]
        results = (run_driver(*d, options) for d in drivers if d[0] != BESIDE)
        for good, bad, text in itertools.chain(results, (f.result() for f in beside)):
            passed, failed = passed + good, failed + bad
            print(text, flush=True)
    return passed, failed


def step_fuzz(options):
    """libFuzzer on the loader: 20 seconds, 10 minutes in the long run."""
    code, text = run_logged(f"{ROOT}/build-fuzz.log", [f"{ROOT}/tests/fuzz/run.py", "600" if options.long else "20"], timeout=1800)
    match = None
    for match in SUMMARY.finditer(text):
        pass
    if code or not match:
        print(tail(text))
    return (int(match.group(1)), int(match.group(2))) if match else (0, 1)


STEPS = {"checks": step_checks, "unit": step_unit, "asan": step_asan, "tsan": step_tsan, "clang": step_clang,
         "fuzz": step_fuzz, "hosted": step_hosted}


def main():
    parser = argparse.ArgumentParser(prog="./dev test")
    parser.add_argument("--long", action="store_true", help="also what takes hours")
    parser.add_argument("--verbose", action="store_true", help="notes of the checks too")
    parser.add_argument("steps", nargs="*", metavar="STEP", help="only these: " + ", ".join(STEPS))
    options = parser.parse_args()
    for step in options.steps:
        if step not in STEPS:
            parser.error(f"no step '{step}': {', '.join(STEPS)} would be right")
    if options.long:
        os.environ["QUIRE_LONG"] = "1"
    passed = failed = 0
    # The checks need the archive that the ordinary build leaves.
    if not options.steps or "checks" in options.steps:
        build("build")
    for step in options.steps or STEPS:
        start = time.monotonic()
        good, bad = STEPS[step](options)
        print(f"{step}: {good} passed, {bad} failed ({time.monotonic() - start:.0f} s)", flush=True)
        passed, failed = passed + good, failed + bad
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
