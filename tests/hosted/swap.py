#!/usr/bin/env python3
"""Memory shortage with swap: more memory than there is, the end of swap, death under pressure.

Environment: QUIRE (the program), QUIRE_LONG=1 (minutes instead of seconds, 10 000 kills), QUIRE_SEED.
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

from harness import LONG, PATIENCE, PROGRAMS, QUIRE, SEED, expect, kill_children, run, run_tests, unaccounted

# Five processes of swap_pattern may come to have all their pages for themselves: five times its size must fit into memory and swap.
KILLS = 10000 if LONG else 100
PATTERN = f"{PROGRAMS}/swap_pattern"
# Twice: whoever reclaims may be the last to let go of a dead process's memory, a moment after its parent heard of the death.
SWAPON = "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).swapon(sys.argv[1].encode(), 0x8009) != 0)'"
FIGURES = "for i in 0.3 3; do sleep $i; echo figures; grep -h VmSwap /proc/[0-9]*/status; cat /proc/meminfo /proc/vmstat; done"


def figures(text):
    """Name: number, of meminfo (kB) and vmstat."""
    found = dict(re.findall(r"^(\w+|\w+\(\w+\)):\s+(\d+) kB$", text, re.M))
    found.update(re.findall(r"^(\w+) (\d+)$", text, re.M))
    return {name: int(value) for name, value in found.items()}


def no_slot_is_lost(text):
    """What swap is used is used by somebody: every slot is held by some process's entries."""
    text = text.rpartition("figures\n")[2]
    held = sum(int(kb) for kb in re.findall(r"^VmSwap:\s+(\d+) kB$", text, re.M))
    f = figures(text)
    used = f["SwapTotal"] - f["SwapFree"]
    expect(used <= held, f"{used} kB of swap are used, but processes hold {held} kB")
    # A page that is left alone keeps a block of up to four frames.
    expect(f["nr_zspages"] * 4 <= 4 * used + 64, f"{f['nr_zspages']} frames hold {used} kB of pages")
    return f


def pattern_of(memory, swap, seconds, *children):
    """A pattern over four times the memory, alone and then in forked processes that make it their own: no wrong byte."""
    code, out, errors = run("--memory", f"{memory}M", "--swap", swap, "--", "bash", "-c",
                            f"{PATTERN} {4 * memory} {seconds} {' '.join(children)}; echo code $?; {FIGURES}", timeout=seconds * 10 + 120)
    expect(code == 0 and "code 0" in out, f"{swap}: {code}: {out[:500]} {errors[-500:]}")
    expect("alone: 0 wrong" in out and "in the end: 0 wrong, 0 children failed" in out, out[:500])
    f = no_slot_is_lost(out)
    expect(f["pswpout"] > 60000 and f["pswpin"] > 60000, f"only {f['pswpout']} pages out, {f['pswpin']} in")
    expect(f["oom_kill"] == 0, "somebody was killed")
    print(f"    {swap}: {f['pswpout']} pages out, {f['pswpin']} in; kswapd freed {f['pgsteal_kswapd']}, processes {f['pgsteal_direct']}")


def four_times_memory():
    """A pattern over four times the memory, alone and in forked processes: no wrong byte."""
    if not LONG:
        pattern_of(64, "2G", 12)
        return
    # Given the time to write all of it, four processes have 16 times the memory, and that does not fit into it at 180 bytes a page.
    pattern_of(64, "2G", 1800, "2")
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        pattern_of(64, f"{directory}/area:2G", 1800)


def zstd():
    """A pattern over three times the memory in zstd's form, alone and in four processes; the last area gone, its rooms are, too."""
    rooms = "grep swap_room /proc/slabinfo"
    for swap in ("zstd:600M", "zstd:600M,level=1"):
        code, out, errors = run("--memory", "32M", "--swap", swap, "--", "bash", "-c",
                                f"{PATTERN} 96 2; echo code $?; {FIGURES}; {rooms}; swapoff /dev/zram0-zstd; {rooms}", timeout=200)
        expect(code == 0 and "code 0" in out, f"{swap}: {code}: {out[:500]} {errors[-500:]}")
        expect("in the end: 0 wrong, 0 children failed" in out, out[:500])
        f = no_slot_is_lost(out)
        expect(f["pswpout"] > 10000 and f["pswpin"] > 10000, f"only {f['pswpout']} pages out, {f['pswpin']} in")
        used = [int(n) for n in re.findall(r"^swap_room +(\d+) ", out, re.M)]
        expect(len(used) == 2 and used[0] >= 1 and used[1] == (0 if not os.geteuid() else used[0]), f"rooms: {used}")


def small_folios():
    """The same with pages of 4 KiB only, and two processors' slots in one."""
    code, out, errors = run("--memory", "32M", "--swap", "512M", "--folio-max", "4K", "--cpus", "1", "--", PATTERN, "96", "2",
                            timeout=PATIENCE)
    expect(code == 0 and "in the end: 0 wrong, 0 children failed" in out, f"{code}: {out[:500]} {errors[-500:]}")


def megabytes(*options):
    code, out, _ = run(*options, "--", f"{PROGRAMS}/endless_malloc")
    expect(code == 137, f"exit code {code}: {out[-200:]}")
    return int(re.findall(r"Now allocated (\d+) Megabytes", out)[-1])


def further_by_the_swap():
    """The tutorial's endless program gets further by about the swap's worth, then it is killed."""
    alone, some, more = (megabytes("--memory", "64M", *s) for s in ((), ("--swap", "64M"), ("--swap", "256M")))
    expect(52 <= some - alone <= 66, f"{alone} MB without, {some} MB with 64 MB of swap")
    expect(220 <= more - alone <= 260, f"{alone} MB without, {more} MB with 256 MB of swap")


def lost_frames(before, after):
    """kB that nothing in meminfo or vmstat accounts for, more than before."""
    def rest(f):
        return unaccounted(f) - 4 * (f["nr_zspages"] + f["nr_isolated_anon"])
    return rest(after) - rest(before)


def kill_all_the_time(kind, swap, kills_wanted):
    random.seed(SEED)
    # (Rewritten text costs frames for good, and what a process that is killed while it makes some has taken stays taken.)
    process = subprocess.Popen([QUIRE, "run", "--memory", "32M", "--patch-syscalls", "off", *swap, "--", "bash", "-c",
                                f"{FIGURES}; echo before; {PATTERN} {kind} 48 0 3 {kills_wanted} 2>&1; echo code $?; {FIGURES}"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    at_first = "".join(iter(lambda: process.stdout.readline(), "before\n"))
    kills = kill_children(process, 0.04, 100 + kills_wanted)
    out, errors = process.communicate()
    expect(process.returncode == 0 and "code 0" in out, f"{process.returncode} after {kills} kills: {out[:500]} {errors[-500:]} (seed {SEED})")
    expect("in the end: 0 wrong, 0 children failed" in out, f"{out[:500]} (seed {SEED})")
    f = no_slot_is_lost(out)
    lost = lost_frames(figures(at_first.rpartition("figures\n")[2]), f)
    expect(lost < 128, f"{lost} kB are in use for nothing (seed {SEED})")
    expect(f["nr_shmem"] < 16 and f["nr_isolated_anon"] == 0, f"{f['nr_shmem']} pages of shared memory are left (seed {SEED})")
    expect(f["oom_kill"] == 0, f"somebody was killed for want of memory (seed {SEED})")
    print(f"    {kills} kills, {f['pswpout']} pages out, {f['pswpin']} in; {lost:+} kB in use for nothing at the end")


def killed_under_pressure():
    """kill -9 at random moments while everybody swaps: the machine goes on, no wrong byte, no lost frame or slot."""
    kill_all_the_time("", ["--swap", "400M"], KILLS)


def killed_while_files_are_written():
    """The same with swap files, whose I/O is under way when its owner dies."""
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        kill_all_the_time("", ["--swap", f"{directory}/a:200M,pri=5", "--swap", f"{directory}/b:200M,pri=5"], KILLS // 2)


def killed_with_shared_memory():
    """The same with shared memory that goes to swap, compressed and in a file: what a dead process wrote is there for the others."""
    kill_all_the_time("shared", ["--swap", "100M"], KILLS // 4)
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        kill_all_the_time("shared", ["--swap", f"{directory}/a:100M"], KILLS // 4)


def files():
    """A pattern over three times the memory in a swap file; and why a file is refused."""
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        name = f"{directory}/swap"
        code, out, errors = run("--memory", "32M", "--swap", f"{name}:512M,pri=3", "--", "bash", "-c",
                                f"{PATTERN} 96 2; echo code $?; cat /proc/swaps; {FIGURES}")
        expect(code == 0 and "code 0" in out, f"{code}: {out[:500]} {errors[-500:]}")
        expect("in the end: 0 wrong, 0 children failed" in out, out[:500])
        expect(re.search(rf"^{re.escape(name)}\s+file\s+524284\s+\d+\s+3$", out, re.M), out[:800])
        f = figures(out.rpartition("figures\n")[2])
        expect(f["pswpout"] > 20000 and f["swap_ra"] > 1000, f"{f['pswpout']} pages out, {f['swap_ra']} read ahead")
        code, _, errors = run("--swap", f"{name}:128M", "--", "true")
        expect(code == 0, f"a swap file is not taken a second time: {errors}")
        with open(f"{directory}/text", "w", encoding="ascii") as other:
            other.write("my letters\n")
        for value, words in ((f"{directory}/text:64M", "is no swap file"), (f"{directory}/none/x:64M", "No such file"),
                             (f"{directory}:64M", "Is a directory"), ("/dev/full:64M", "not a regular file"),
                             (f"{directory}/big:64G", "no room")):
            if words == "no room" and shutil.disk_usage(directory).free > 64 << 30:
                continue
            code, out, errors = run("--swap", value, "--", "echo", "started")
            expect(code == 125 and words in errors and "started" not in out, f"--swap {value}: {code} {out} {errors}")
        expect(open(f"{directory}/text", encoding="ascii").read() == "my letters\n", "a file was overwritten")
        expect(not os.path.exists(f"{directory}/big"), "what could not be made was left behind")


INSIDE = """
cd $0 && fallocate -l 64M a && chmod 600 a && mkswap a >/dev/null && swapon -p 7 a || exit 1
swapon a 2>&1 | grep -o busy
cp a b && chmod 644 a && echo not a swap file >c
swapon c 2>/dev/null && echo wrong
swapon --show=NAME,SIZE,PRIO --noheadings
$1 20 2 2>/dev/null
swapoff a && swapoff a 2>/dev/null && echo wrong
cat /proc/swaps
"""


SHARED = """
import mmap, os
pages = 96 * 256
m = mmap.mmap(-1, pages * 4096)  # shared and anonymous
for i in range(0, pages, 3):
    m[i * 4096:i * 4096 + 8] = (i + 1).to_bytes(8, "little")
child = os.fork()
step = range(0, pages, 3) if child else range(pages - 3, -1, -3)
first = {m[i * 4096:i * 4096 + 8] == (i + 1).to_bytes(8, "little") for i in step}
for i in range(1 if child else 2, pages, 3):
    m[i * 4096 + 100:i * 4096 + 108] = (i + 7).to_bytes(8, "little")
if not child:
    os._exit(first != {True})
print("child", os.waitpid(child, 0)[1], first)
print("both", {m[i * 4096 + 100:i * 4096 + 108] == (i + 7).to_bytes(8, "little") for i in range(pages) if i % 3})
print("zero", {m[i * 4096 + 3000] for i in range(pages)})
"""


def shared_memory():
    """Shared memory of twice the machine's, seen by two processes."""
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        for swap in ("128M", f"{directory}/a:128M"):
            code, out, errors = run("--memory", "48M", "--swap", swap, "--", "python3", "-c", SHARED)
            expect(code == 0 and out == "child 0 {True}\nboth {True}\nzero {0}\n", f"{swap}: {code} {out} {errors[-500:]}")


def switched_on_inside():
    """mkswap, swapon and swapoff by programs of the machine."""
    if os.geteuid() or not all(shutil.which(name) for name in ("mkswap", "swapon", "swapoff")):
        print("skipped: swapon(8) inside a machine needs root and util-linux")
        return
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        code, out, errors = run("--memory", "48M", "--", "bash", "-c", INSIDE, directory, PATTERN)
        expect(code == 0 and "wrong\n" not in out.replace("0 wrong", ""), f"{code}: {out} {errors[-500:]}")
        expect(re.search(rf"busy\n{directory}/a +64M +7\n", out), out)
        expect("in the end: 0 wrong, 0 children failed" in out, out)
        expect(out.endswith("Priority\n"), f"areas are left: {out}")


def calls_rewritten_under_pressure():
    """Where all memory is in use there is no block of 256 KiB for rewritten text at hand; it must be made, or each call stays a trap."""
    script = f"{PATTERN} 64 20 2>&1 & sleep 1; dd if=/dev/zero of=/dev/null bs=1 count=40000 2>/dev/null; kill %1; wait"
    for attempt in range(3):
        code, out, errors = run("--verbose", "--memory", "32M", "--swap", "128M", "--", "bash", "-c", script)
        if "system calls rewritten" in errors:
            return
    expect(False, f"{code}: {out[-300:]} {errors[-500:]}")


def no_room_on_the_host():
    """A file system that is full: what a swap file will not take, the others do."""
    with tempfile.TemporaryDirectory(prefix="swap-test-") as directory:
        if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20M", "none", directory], check=False).returncode:
            print("skipped: a file system of 20 MiB needs root")
            return
        try:
            # A file with holes: mkswap warns, and swapon(8) would refuse it, but the call takes it.
            script = (f"truncate -s 64M {directory}/a; mkswap {directory}/a >/dev/null 2>&1; {SWAPON} {directory}/a || exit 1; "
                      f"{PATTERN} 96 2; echo code $?; cat /proc/swaps; {FIGURES}")
            code, out, errors = run("--memory", "48M", "--swap", "512M", "--log", f"{directory}.log", "--", "bash", "-c", script)
            expect(code == 0 and "code 0" in out, f"{code}: {out[:500]} {errors[-500:]}")
            expect("in the end: 0 wrong, 0 children failed" in out, out[:500])
            expect(re.search(r"/a +file\s+65532\s+\d+\s+9$", out, re.M), out[:500])
            with open(f"{directory}.log", encoding="utf-8") as log:
                expect("No room left on swap-device" in log.read(), "the file system was never full")
            os.unlink(f"{directory}.log")
        finally:
            subprocess.run(["umount", directory], check=True)


TESTS = [four_times_memory, zstd, small_folios, further_by_the_swap, files, shared_memory, switched_on_inside, calls_rewritten_under_pressure, no_room_on_the_host, killed_under_pressure,
         killed_while_files_are_written, killed_with_shared_memory]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
