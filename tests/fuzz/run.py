#!/usr/bin/env python3
"""Builds the fuzz targets with clang and runs each for SECONDS (argument; 20), from the seeds that are kept here.

New inputs are collected in build-fuzz/corpus; a crash is left in build-fuzz/ and its path printed.  The last line is 'N passed, N failed'.
"""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("FUZZ_BUILD", os.path.join(ROOT, "build-fuzz"))
TARGETS = ["elf"]


def build():
    env = dict(os.environ, CC="clang")
    if not os.path.exists(os.path.join(BUILD, "build.ninja")):
        subprocess.run(["meson", "setup", BUILD, ROOT, "-Db_sanitize=address,undefined", "-Db_lundef=false"], env=env,
                       check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", BUILD, *(f"tests/fuzz/{name}_fuzz" for name in TARGETS)], check=True,
                   stdout=subprocess.DEVNULL)


def fuzz(name, seconds):
    corpus = os.path.join(BUILD, "corpus", name)
    os.makedirs(corpus, exist_ok=True)
    command = [os.path.join(BUILD, "tests", "fuzz", name + "_fuzz"), corpus, os.path.join(HERE, name), "-max_len=8192", "-timeout=20",
               f"-max_total_time={seconds}", "-print_final_stats=1", "-rss_limit_mb=2048", f"-artifact_prefix={BUILD}/{name}-"]
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace")
    lines = done.stdout.splitlines()
    # A fuzzer that ran nothing has found nothing.
    runs = [int(line.split()[-1]) for line in lines if line.startswith("stat::number_of_executed_units")]
    good = done.returncode == 0 and bool(runs) and runs[0] > 100
    print(f"{name}: {runs[0] if runs else 0} inputs in {seconds} s")
    if not good:
        print("\n".join(lines[-40:]))
    return good


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    build()
    results = [fuzz(name, seconds) for name in TARGETS]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
