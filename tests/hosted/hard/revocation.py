#!/usr/bin/env python3
"""A reclaimer in the supervisor takes frames back from guests in every state; each page knows what it holds.

revocation.py QUIRE_HARD TAGGED_GUEST [--no-signal | --keep-installs]
With --no-signal revokers do not signal threads in guest code; with --keep-installs a forked child keeps what other threads of its
parent mapped after its memory was copied.  Then wrong bytes must be found, or a child must hang (its libc's lists are such bytes),
or the test proves nothing.
Environment: REVOCATIONS (default 100000; ten times that with QUIRE_LONG=1).
"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import LONG  # noqa: E402

WANTED = int(os.environ.get("REVOCATIONS", "1000000" if LONG else "100000"))


def run(quire, guest, options, wanted, extra, batch=32, limit=250):
    env = dict(os.environ, QUIRE_HARD=options, QUIRE_HARD_REVOKE=str(wanted), QUIRE_HARD_BATCH=str(batch))
    start = time.monotonic()
    process = subprocess.Popen([quire, "run", "--memory", "96M", *extra, "--", guest, str(limit - 20)], env=env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        return None, out + f"\nHANGS after {limit} s"
    return process.returncode, out + f"    exit code {process.returncode}, {time.monotonic() - start:.1f} s\n"


def main():
    quire, guest = sys.argv[1:3]
    if sys.argv[3:]:
        code, out = run(quire, guest, sys.argv[3][2:], WANTED // 2, [], limit=60)
        print(out[-1500:])
        print("nothing was noticed: this test proves nothing" if code == 0 else f"as it must: {sys.argv[3]} is noticed")
        return 1 if code == 0 else 0
    bad = 0
    half = WANTED // 2
    for name, options, wanted, extra, batch in (
            ("large folios", "", half, [], 32),
            ("large folios, delays", "delays", half // 2, [], 64),
            ("4 KiB folios, delays, batches of 8", "delays", half // 2, ["--folio-max", "4K"], 8)):
        code, out = run(quire, guest, options, wanted, extra, batch)
        print(f"{name}:\n{out[-2500:]}", flush=True)
        bad += code != 0 or f"revoked {wanted // 100000}" not in out and "revoked" not in out
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
