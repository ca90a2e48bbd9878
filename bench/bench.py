#!/usr/bin/env python3
"""The benchmarks, for `./dev bench [WORD...]`.

Each hosted figure stands beside the same program natively, run in turn in the same run; medians.  `aim` is the ratio
that the project set itself; `*` marks what misses it.  Core benchmarks (programs named *_bench or bench_* that the floors build) print
their own ratios.  With WORDs only what contains one of them.

Nothing here fails on a bad ratio: the exit code only says whether everything could be measured.
"""
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import swap_bench

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, "build")
QUIRE = os.environ.get("QUIRE", os.path.join(BUILD, "quire"))
SWAP_GUEST = os.path.join(os.path.dirname(QUIRE), "bench", "swap_guest")
GUEST = os.path.join(os.path.dirname(QUIRE), "bench", "guest_bench")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
LIMIT = 300  # seconds, for one program

# (measurement, options of quire run, aim as a ratio or None, memory)
GUEST_FIGURES = [
    ("first_touch_sequential", ["--folio-max", "2M"], 1.0),
    ("first_touch_sequential", ["--folio-max", "64K"], None),
    ("first_touch_sequential", ["--folio-max", "4K"], 5.0),
    ("first_touch_random", ["--folio-max", "2M"], 1.5),
    ("first_touch_random", ["--folio-max", "64K"], 1.5),
    ("first_touch_random", ["--folio-max", "4K"], 5.0),
    ("second_touch", [], None),
    ("call_trapped", ["--patch-syscalls", "off"], 15.0),
    ("call_trapped", [], 2.5),  # rewritten
    ("call_getppid", [], None),
    ("call_untrapped", [], 1.5),
    ("call_with_buffer", [], None),
    ("mmap_touch_munmap", [], None),
    ("mprotect_pair", [], None),
    ("fork_exit_wait", [], 2.0),
    ("fork_of_64m", [], 1.0),
    ("child_rewrites_64m", [], 2.0),
    ("revoke_1_busy", [], None),
    ("revoke_64_busy", [], None),
    ("revoke_1024_busy", [], None),
    ("revoke_1_asleep", [], None),
    ("revoke_64_asleep", [], None),
    ("revoke_1024_asleep", [], None),
    ("exec_cached", [], 2.5),
    ("compute", [], 1.01),
    ("copy_resident", [], 1.15),
    ("walk_64m", [], 1.15),
    ("walk_1g", ["--folio-max", "4K"], 3.0),
]

SOURCE = "".join(f"int f{i}(int a) {{ int s = 0; for (int i = 0; i < a; i++) s += i * {i}; return s; }}\n" for i in range(1000))
PROGRAMS = [
    ("python3 -c pass", "python3 -c pass"),
    ("gcc, 1000 lines", "gcc -O1 -c $T/source.c -o $T/source.o"),
    ("sqlite3, 100 000 rows", "sqlite3 :memory: 'create table t(a, b); with recursive n(i) as (select 1 union all "
     "select i + 1 from n where i < 100000) insert into t select i, hex(i) from n; select count(*) from t;'"),
    ("find /usr", "find /usr -xdev -newer /etc/passwd"),
    ("sort 500 000 lines", "sort $T/lines > /dev/null"),
    ("200 forks in bash", "for i in {1..200}; do /bin/true; done"),
]
PROGRAM_AIM, MEAN_AIM = 1.5, 1.25


def wanted(words, *texts):
    return not words or any(w in t for w in words for t in texts)


def number(command, env=None):
    """The one number that a measurement prints, or None."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, env=env)
        return float(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        return None


def seconds(command, env):
    """None if it failed or took longer than LIMIT.  A wait with a timeout would look only every 16, 32, 50 ms."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    code = process.wait()
    spent = time.monotonic() - start
    timer.cancel()
    return spent if code in (0, 1) else None


def in_turn(native, quire):
    """Medians of both, measured alternately after one round unmeasured; None where one could not be measured."""
    left, right = [], []
    native()
    quire()
    for _ in range(ROUNDS):
        left.append(native())
        right.append(quire())
        if left[-1] is None or right[-1] is None:
            return left[-1], right[-1]
    return statistics.median(left), statistics.median(right)


def line(name, native, quire, unit, aim):
    if native is None or quire is None:
        print(f"{name:44} {'not measured':>12}")
        return None
    ratio = quire / native
    mark = "" if aim is None else f"aim {aim:g}" + (" *" if ratio > aim else "")
    print(f"{name:44} {native:12.1f} {quire:12.1f} {unit:8} {ratio:7.2f}  {mark}", flush=True)
    return ratio


def guest_figures(words):
    failed = 0
    for name, options, aim in GUEST_FIGURES:
        title = name + (" " + " ".join(options) if options else "")
        if not wanted(words, title):
            continue
        native, quire = in_turn(lambda: number([GUEST, name], dict(os.environ, BENCH_SMALL_PAGES="1")),
                                lambda: number([QUIRE, "run", "--memory", "3G", *options, "--", GUEST, name]))
        failed += line(title, native, quire, "ns/op", aim) is None
    return failed


def programs(words):
    ratios, failed = [], 0
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/source.c", "w", encoding="ascii") as f:
            f.write(SOURCE)
        with open(f"{directory}/lines", "w", encoding="ascii") as f:
            f.writelines(f"{i * 7919 % 500009}\n" for i in range(500000))
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "T": directory, "LC_ALL": "C", "HOME": directory}
        for name, command in PROGRAMS:
            if not wanted(words, name, "programs") or not shutil.which(command.split()[0], path=env["PATH"] + ":") \
                    and not command.startswith("for"):
                continue
            shell = ["/bin/bash", "-c", command]
            native, quire = in_turn(lambda: seconds(shell, env),
                                    lambda: seconds([QUIRE, "run", "--memory", "3G", "--", *shell], env))
            ratio = line(name, native and native * 1000, quire and quire * 1000, "ms", PROGRAM_AIM)
            failed += ratio is None
            ratios += [ratio] if ratio else []
    if len(ratios) > 1:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        print(f"{'geometric mean of whole programs':44} {'':12} {'':12} {'':8} {mean:7.2f}  aim {MEAN_AIM}"
              + (" *" if mean > MEAN_AIM else ""))
    return failed


def boot(words):
    """Time of `quire run true` by memory size: it must not grow."""
    failed = 0
    for size in (None, "64M", "1G", "8G", "64G"):
        title = "boot, quire run" + (f" --memory {size}" if size else "") + " true"
        if not wanted(words, title):
            continue
        options = ["--memory", size] if size else []
        env = dict(os.environ)
        native, quire = in_turn(lambda: seconds(["/bin/true"], env),
                                lambda: seconds([QUIRE, "run", *options, "--", "/bin/true"], env))
        if quire is None or native is None:
            print(f"{title:44} {'not measured':>12}")
            failed += 1
        else:
            print(f"{title:44} {native * 1000:12.1f} {quire * 1000:12.1f} ms       {'':7}  aim 15 ms"
                  + (" *" if quire > 0.015 else ""))
    return failed


def core_benches(words):
    """Programs of the floors, found among the build's targets."""
    failed = 0
    out = subprocess.run(["meson", "introspect", BUILD, "--targets"], capture_output=True, text=True, cwd=ROOT).stdout
    for target in json.loads(out or "[]"):
        name = target["name"]
        if target["type"] != "executable" or name == "guest_bench" or not wanted(words, name):
            continue
        if not (name.endswith("_bench") or name.startswith("bench_")):
            continue
        path = target["filename"][0]
        built = subprocess.run(["ninja", "-C", BUILD, os.path.relpath(path, BUILD)], cwd=ROOT, capture_output=True, text=True)
        print(f"---- {name}", flush=True)
        if built.returncode:
            print(built.stdout[-2000:])
        failed += built.returncode != 0 or subprocess.run([path], stdin=subprocess.DEVNULL).returncode != 0
    return failed


def main():
    words = sys.argv[1:]
    failed = core_benches(words)
    print(f"\n---- hosted: {'what':30} {'native':>12} {'quire':>12} {'unit':8} {'ratio':>7}")
    failed += guest_figures(words) + programs(words) + boot(words)
    print(f"\n---- swap: {'what':32} {'peer':>12} {'quire':>12} {'unit':8} {'ratio':>7}")
    failed += swap_bench.out_and_in(QUIRE, SWAP_GUEST, line, ROUNDS, lambda *texts: wanted(words, *texts))
    failed += swap_bench.shortage(QUIRE, line, ROUNDS, lambda *texts: wanted(words, *texts))
    if failed:
        print(f"{failed} could not be measured", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
