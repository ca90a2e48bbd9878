#!/usr/bin/env python3
"""What the machine shows of itself moves as on Linux: the same load natively and inside, step by step, and the tools that read it.

The load maps, touches, locks, shares, forks and frees memory and reads a mapped file; after each step it notes how far
/proc/meminfo, /proc/vmstat and its own /proc/self files went.  Compared are directions and orders of magnitude: what moves by a
good part of the load on the host must do so in the machine.  The host is shared with others, so a figure that others may have
moved is asked for again, and left out (and said so) if it stays wild.

Environment: QUIRE (the program).
"""
import json
import os
import re
import sys

from harness import ROOT, expect, outcome, run, run_tests

SIZE = 96  # MiB of every step
LOAD = r"""
import json, mmap, os, sys, time
N = int(sys.argv[1]) << 20
def figures():
    f = {}
    for line in open("/proc/meminfo"):
        name, value = line.split()[:2]
        f["meminfo." + name[:-1]] = int(value)
    for line in open("/proc/vmstat"):
        name, value = line.split()
        f["vmstat." + name] = int(value) * (4 if name.startswith("nr_") else 1)
    for line in open("/proc/zoneinfo"):  # "  pages free N", "      nr_anon_pages N" of a node
        words = line.replace("pages", "").split() if line.startswith("  pages") else line.split()
        if len(words) == 2 and words[0] in ("free", "nr_anon_pages", "nr_mapped", "nr_shmem", "nr_file_pages"):
            f["zoneinfo." + words[0]] = f.get("zoneinfo." + words[0], 0) + int(words[1]) * 4
    for line in open("/proc/self/status"):
        if line.startswith(("Vm", "Rss")):
            f["self." + line.split(":")[0]] = int(line.split()[1])
    for line in open("/proc/self/smaps_rollup"):
        if line.rstrip().endswith("kB"):
            f["rollup." + line.split(":")[0]] = int(line.split()[1])
    stat = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
    f["self.minflt"], f["self.vsize"], f["self.rss"] = int(stat[7]), int(stat[20]) >> 10, int(stat[21]) * 4
    return f
steps, last = [], None
def step(name):
    global last
    now = figures()
    if last:
        steps.append([name, {k: now[k] - last[k] for k in now if k in last}])
    last = figures()
def touch(m, write=True):
    for i in range(0, len(m), 4096):
        if write: m[i] = 1
        else: m[i]
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "quire-diff-views.%d" % os.getpid())
with open(path, "wb") as f:
    for _ in range(N >> 20): f.write(b"x" * (1 << 20))
    f.flush(); os.fsync(f.fileno()) # pages of the file that are dirty in the host's cache count as such
step(None); step(None); steps.clear()
a = mmap.mmap(-1, N, flags=PRIVATE); step("map private memory")
touch(a); step("touch it")
import ctypes
libc = ctypes.CDLL(None)
libc.mlock.argtypes = libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
lock = min(N, 4 << 20)
address = ctypes.addressof(ctypes.c_char.from_buffer(a))
libc.mlock(address, lock); step("lock 4 MiB of it")
libc.munlock(address, lock); step("unlock it")
pid = os.fork()
if not pid:
    touch(a)
    time.sleep(600)
    os._exit(0)
while int(open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()[7]) < 1: time.sleep(0.01)
end = time.monotonic() + 60
while time.monotonic() < end:
    rss = [int(l.split()[1]) for l in open("/proc/%d/smaps_rollup" % pid) if l.startswith("Private_Dirty")]
    if rss and rss[0] >= N >> 10: break
    time.sleep(0.05)
step("a child writes to all of it")
os.kill(pid, 9); os.waitpid(pid, 0)
# A machine knows it, and its memory, until the supervisor has tidied up.
for _ in range(6000):
    try: open("/proc/%d/statm" % pid).close()
    except OSError: break
    time.sleep(0.01)
time.sleep(0.3); step("the child is killed")
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.madvise(address, N, 4); step("MADV_DONTNEED")
s = mmap.mmap(-1, N); touch(s); step("touch shared memory")
s.close(); step("unmap it")
f = open(path, "r+b")
m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); touch(m, False); step("read a mapped file")
m.close(); step("unmap the file")
f.close(); os.unlink(path)
print(json.dumps(steps))
"""
# Where the host's own business does not reach: figures of the process itself.
OWN = ("self.", "rollup.")
# Machine-wide figures that follow the load on Linux.
GLOBAL = ("meminfo.AnonPages", "meminfo.Mapped", "meminfo.Shmem", "meminfo.Cached", "meminfo.Committed_AS", "meminfo.PageTables",
          "meminfo.Mlocked", "meminfo.Unevictable", "meminfo.Inactive(anon)", "vmstat.nr_anon_pages", "vmstat.nr_mapped",
          "vmstat.nr_shmem", "vmstat.nr_file_pages", "zoneinfo.nr_anon_pages", "zoneinfo.nr_mapped", "zoneinfo.nr_shmem",
          "zoneinfo.nr_file_pages")
# Known to differ, with the reason.
EXCEPT = {
    # The machine's page cache holds a host file's pages while it is mapped or open; the bytes are in the host's cache before.
    ("read a mapped file", "meminfo.Cached"), ("read a mapped file", "vmstat.nr_file_pages"), ("unmap the file", "meminfo.Cached"),
    ("unmap the file", "vmstat.nr_file_pages"), ("read a mapped file", "zoneinfo.nr_file_pages"),
    ("unmap the file", "zoneinfo.nr_file_pages"),
    # A fault brings up to 2 MiB, so there are fewer of them.
    ("touch it", "self.minflt"), ("touch shared memory", "self.minflt"), ("read a mapped file", "self.minflt"),
}


def native():
    code, out, errors = outcome([sys.executable, "-c", LOAD, str(SIZE)])
    expect(code == 0, f"the load itself: {code} {errors}")
    return json.loads(out)


def inside(*options):
    code, out, errors = run(*options, "--", sys.executable, "-c", LOAD, str(SIZE))
    expect(code == 0, f"exit code {code}: {errors}")
    return json.loads(out)


def interesting(key):
    # Huge pages are each system's own policy.
    return (key.startswith(OWN) or key in GLOBAL) and not key.endswith("HugePages")


def agrees(host, machine):
    """Same direction, and the same within a factor of two and a half; small ones only need to be small."""
    small = SIZE * 1024 // 8
    if abs(host) < small:
        return abs(machine) < 2 * small
    return host * machine > 0 and 0.4 <= machine / host <= 2.5


def differences(host, machine):
    found = []
    for (name, h), (_, m) in zip(host, machine):
        for key in h:
            if interesting(key) and key in m and (name, key) not in EXCEPT and not agrees(h[key], m[key]):
                found.append((name, key, h[key], m[key]))
    return found


def same_load():
    """The same load natively and inside: what moves there by a good part of the load moves here, the same way."""
    machine = inside("--memory", "768M")
    left = None
    for _ in range(20):
        host = native()
        expect([n for n, _ in host] == [n for n, _ in machine], "other steps")
        again = differences(host, machine)
        own = [d for d in again if d[1].startswith(OWN)]
        expect(not own, f"(step, figure, host, machine): {own}")
        # What was right beside any quiet run of the host is right.
        left = again if left is None else [d for d in left if (d[0], d[1]) in {(x[0], x[1]) for x in again}]
        if not left:
            break
    moved = sum(1 for (_, h) in host for k in h if interesting(k) and abs(h[k]) >= SIZE * 1024 // 8)
    expect(moved > 40, f"only {moved} figures moved on the host")
    expect(not left, f"(step, figure, host, machine): {left}")
    print(f"    {moved} figures moved on the host, and here")


def memory_of_machine():
    """What on the host other programs move too: MemFree and MemAvailable follow, allocations and frees are counted."""
    steps = dict(inside("--memory", "768M"))
    n = SIZE * 1024
    for name, sign in (("touch it", -1), ("a child writes to all of it", -1), ("the child is killed", 1), ("MADV_DONTNEED", 1),
                       ("touch shared memory", -1), ("unmap it", 1)):
        for key in ("meminfo.MemFree", "meminfo.MemAvailable", "vmstat.nr_free_pages", "zoneinfo.free"):
            expect(0.9 * n < sign * steps[name][key] < 1.2 * n, f"{name}: {key} {steps[name][key]:+} kB of {n}")
        moved = {key: steps[name]["vmstat." + key] * 4 for key in ("pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgfree")}
        expect(0.9 * n < (moved["pgfree"] if sign > 0 else sum(moved.values()) - moved["pgfree"]) < 1.3 * n, f"{name}: {moved} of {n}")


# What free(1), vmstat(8) and top(1) say before, while and after a program holds memory: differences in kB.
TOOLS = r"""
import json, mmap, os, subprocess, sys
N = int(sys.argv[1]) << 20
def words(*command):
    out = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, COLUMNS="200", LC_ALL="C")).stdout
    return [line.split() for line in out.splitlines()]
def look():
    memory = next(w for w in words("free", "-k") if w and w[0] == "Mem:")
    f = {"free: used": int(memory[2]), "free: free": int(memory[3]), "free: available": int(memory[6])}
    f["vmstat 1: free"] = int(words("vmstat", "-n", "1", "2")[-1][3])
    top = words("top", "-b", "-n", "1", "-E", "k", "-e", "k", "-p", str(os.getpid()))
    f["top: free"] = next(int(float(w[w.index("free,") - 1])) for w in top if "Mem" in w)
    f["top: used"] = next(int(float(w[w.index("used,") - 1])) for w in top if "Mem" in w)
    f["top: RES"] = next(int(w[5]) for w in top if w and w[0] == str(os.getpid()))
    return f
looks = [look()]
m = mmap.mmap(-1, N, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(0, N, 4096): m[i] = 1
looks.append(look())
m.close()
looks.append(look())
print(json.dumps([{k: b[k] - a[k] for k in a} for a, b in zip(looks, looks[1:])]))
"""


def tools_as_on_the_host():
    """free, vmstat 1 and top move by what a program takes and gives back, and the same way natively.

    By how much they move natively says little: Linux (from 6.7) keeps a large machine's freed pages on lists of the CPUs, and those count as
    used.  So the amount is held against what the program took, the direction against the host."""
    size = 2 * SIZE
    n = size * 1024
    command = [sys.executable, "-c", TOOLS, str(size)]
    code, out, errors = run("--memory", "768M", "--", *command)
    expect(code == 0, f"exit code {code}: {errors}")
    machine, wrong = json.loads(out), []
    off = [(i, key, m[key]) for i, m in enumerate(machine) for key in m if not 0.9 * n < abs(m[key]) < 1.2 * n]
    expect(not off and len(machine[0]) == 7, f"of {n} kB: {off}")
    for _ in range(10):  # other programs move the host's figures, too
        code, out, errors = outcome(command)
        expect(code == 0, f"natively {code}: {errors}")
        host = json.loads(out)
        wrong = [(("taken", "given back")[i], key, h[key], machine[i][key]) for i, h in enumerate(host) for key in h
                 if h[key] * machine[i][key] <= 0 or (key == "top: RES" and not agrees(h[key], machine[i][key]))]
        if not wrong:
            break
    expect(not wrong, f"(when, figure, host, machine): {wrong}")


def shell(script, *options):
    code, out, errors = run(*options, "--", "bash", "-c", script)
    expect(code == 0, f"exit code {code}: {out[-500:]} {errors}")
    return out


def tools():
    """free, vmstat, top: totals are the machine's, and what a program takes shows in each."""
    hold = "import time;b=bytearray(b'x'*4096)*(256*200);print('holds',flush=True);time.sleep(600)"
    out = shell(f"export COLUMNS=200; free -k; exec 3< <({sys.executable} -c \"{hold}\"); holder=$!; read -u3 x; free -k; vmstat -n 1 2;"
                "top -b -n 1 -o RES | head -9; kill $holder", "--memory", "512M")
    rows = [line.split() for line in out.splitlines()]
    memory = [row for row in rows if row and row[0] == "Mem:"]
    expect(len(memory) == 2 and memory[0][1] == memory[1][1] == str(512 << 10), f"{memory}")
    for column, sign in ((2, 1), (3, -1), (6, -1)):  # used, free, available
        moved = sign * (int(memory[1][column]) - int(memory[0][column]))
        expect(190 << 10 < moved < 240 << 10, f"free: column {column} moved by {moved} kB: {memory}")
    numbers = [row for row in rows if len(row) >= 17 and all(re.fullmatch(r"\d+", word) for word in row[:17])]
    expect(len(numbers) == 2, f"vmstat: {out}")
    expect(all(abs(int(row[3]) - int(memory[1][3])) < 40 << 10 for row in numbers), f"vmstat's free: {numbers} beside {memory[1]}")
    expect(re.search(r"MiB Mem : +512\.0 total", out), out)
    top = [row for row in rows if len(row) == 12 and row[11].startswith("python3")]
    expect(top and 200 << 10 < int(top[0][5]) < 230 << 10 and 38 < float(top[0][9]) < 46, f"top: {top}")


def shortage():
    """Under pressure: swap fills, reclaim counts, free memory stays about the watermarks, in every view alike."""
    use = ("import os,time;b=[bytearray(os.urandom(512)*8) for i in range(256*150)];print('holds',flush=True);"
           "[[b[i].append(1) for i in range(k,len(b),3)] and time.sleep(1) for k in (0,1,2)];print('rests',flush=True);time.sleep(600)")
    out = shell("cat /proc/vmstat /proc/meminfo; echo MIDDLE; exec 3< <(" + sys.executable + " -c \"" + use + "\"); holder=$!; read -u3 x; vmstat -n 1 4; read -u3 x;"
                "cat /proc/vmstat /proc/meminfo /proc/zoneinfo /proc/swaps; free -k; kill $holder", "--memory", "96M", "--swap", "512M")
    before, after = (dict((a, int(b)) for a, b in re.findall(r"^([\w()]+):? +(\d+)(?: kB)?$", part, re.M)) for part in out.split("MIDDLE"))
    moved = {k: after[k] - before[k] for k in after if k in before}
    for key in ("pswpout", "pgscan_anon", "pgsteal_anon", "pageoutrun"):
        expect(moved[key] > 0, f"{key} did not move")
    out_kb, swap = moved["pswpout"] * 4, -moved["SwapFree"]
    expect(40 << 10 < swap < 400 << 10 and out_kb >= swap * 0.9, f"{out_kb} kB swapped out, swap filled by {swap} kB")
    expect(moved["pgsteal_kswapd"] + moved["pgsteal_direct"] >= moved["pswpout"] * 0.8, f"{moved}")
    expect(after["MemFree"] < 24 << 10, f"MemFree is {after['MemFree']} kB")
    zones = re.findall(r"^Node 0, zone +(\w+)\n(?:.*\n)*?  pages free +(\d+)\n.*\n +min +(\d+)\n +low +(\d+)\n +high +(\d+)", out, re.M)
    used = [zone for zone in zones if int(zone[1])]
    expect(used and all(0 < int(least) < int(low) < int(high) for _, _, least, low, high in used), f"{zones}")
    free = sum(int(pages) for _, pages, *_ in zones) * 4
    expect(abs(free - after["MemFree"]) < 8 << 10, f"zoneinfo {free} kB free, meminfo {after['MemFree']}")
    used = int(re.search(r"^Swap: +\d+ +(\d+)", out, re.M)[1])
    listed = int(re.search(r"^/dev/zram0 +partition\s+\d+\s+(\d+)", out, re.M)[1])
    expect(abs(used - (after["SwapTotal"] - after["SwapFree"])) < 40 << 10 and abs(listed - used) < 40 << 10, f"{used} {listed} {after}")
    rows = [[int(w) for w in line.split()[:17]] for line in out.splitlines() if re.fullmatch(r"( *\d+){17,18} *", line)]
    expect(len(rows) == 4 and any(row[7] > 0 for row in rows[1:]), f"vmstat shows nothing swapped out: {rows}")


# More than there is: filled, read twice, given back.  Counted in pages.
SHORT = r"""
import json, mmap
def figures():
    f = {}
    for line in open("/proc/vmstat"):
        name, value = line.split()
        if name in ("pswpout", "pswpin", "pgscan_anon", "pgsteal_anon", "pgmajfault"): f[name] = int(value)
    for line in open("/proc/meminfo"):
        if line.startswith("SwapFree"): f["SwapFree"] = int(line.split()[1]) // 4
    return f
steps = [figures()]
m = mmap.mmap(-1, 112 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m.madvise(15)  # MADV_NOHUGEPAGE: huge pages are each system's own policy
pages = range(0, len(m), 4096)
for i in pages: m[i:i + 8] = (i * 0x9e3779b1 + 1).to_bytes(8, "little")
steps.append(figures())
for _ in range(2):
    for i in pages: assert m[i:i + 8] == (i * 0x9e3779b1 + 1).to_bytes(8, "little")
steps.append(figures())
m.close()
steps.append(figures())
print(json.dumps([{k: b[k] - a[k] for k in a} for a, b in zip(steps, steps[1:])]))
"""


def shortage_as_on_the_host():
    """112 MiB in 64, with compressed swap: what the host counts for a memory cgroup with zram the machine counts, within a factor of four."""
    sys.path.insert(0, os.path.join(ROOT, "bench"))
    from swap_bench import limited  # pylint: disable=import-outside-toplevel
    command = [sys.executable, "-S", "-c", SHORT]
    with limited(256 << 20) as cgroup:
        if isinstance(cgroup, str):
            print(f"skipped: the host cannot be short of memory for us: {cgroup}")
            return
        cgroup.limit(64 << 20, 256 << 20)
        code, out, errors = outcome(["bash", "-c", f"echo $$ >{cgroup.path}/cgroup.procs && exec \"$@\"", "enter", *command])
    expect(code == 0, f"natively {code}: {errors}")
    host = json.loads(out)
    code, out, errors = run("--memory", "64M", "--swap", "256M", "--", *command)
    expect(code == 0, f"exit code {code}: {errors}")
    machine = json.loads(out)
    moved = [(name, key, h[key], m[key]) for name, h, m in zip(("fill", "read twice", "unmap"), host, machine) for key in h
             if abs(h[key]) > 2000]
    # Neighbours come back with one fault here, so there are fewer of those.
    wrong = [(name, key, h, m) for name, key, h, m in moved
             if m * h <= 0 or (key != "pgmajfault" and not 0.25 <= m / h <= 4)]
    expect(len(moved) >= 8 and not wrong, f"(step, figure, host, machine): {wrong or moved}")
    print(f"    {len(moved)} figures moved on the host, and here")


def pressure():
    """/proc/pressure/memory: nothing while there is room, waits under shortage, forgotten again; the host's is another."""
    touch = "import os;b=[bytearray(os.urandom(512)*8) for i in range(256*100)];[b[i].append(1) for k in range(2) for i in range(len(b))]"
    out = shell(f"cat /proc/pressure/memory; {sys.executable} -c '{touch}'; cat /proc/pressure/memory; sleep 2.2; cat /proc/pressure/memory",
                "--memory", "48M", "--swap", "256M")
    lines = re.findall(r"^(some|full) avg10=(\d+\.\d\d) avg60=(\d+\.\d\d) avg300=(\d+\.\d\d) total=(\d+)$", out, re.M)
    expect([line[0] for line in lines] == ["some", "full"] * 3 and len(out.splitlines()) == 6, out)
    before, full_before, during, full, after, _ = [[float(word) for word in line[1:]] for line in lines]
    expect(before[:3] == full_before[:3] == [0, 0, 0] and before[3] < 10000, out)
    expect(during[3] > 20000 and during[3] >= full[3] > 0, out)
    expect(after[0] > 0 and after[0] >= after[1] >= after[2] and after[3] >= during[3], out)
    code, roomy, _ = run("--memory", "512M", "--", "cat", "/proc/pressure/memory")
    expect(code == 0 and all(int(total) < 1000 for total in re.findall(r"total=(\d+)", roomy)), roomy)


WAYS = r"""
import ctypes, mmap, os, subprocess
libc = ctypes.CDLL(None)
keep = [mmap.mmap(-1, 8192, prot=mmap.PROT_READ if i % 2 else 3, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for i in range(300)]
def drain(fd):
    text = b""
    while (part := os.read(fd, 5000)): text += part
    return text
def again(fd): drain(fd); os.lseek(fd, 0, 0); return drain(fd)
def dup(fd): return drain(libc.dup(fd))
def dup2(fd): os.read(fd, 10); os.dup2(fd, 60); os.lseek(60, 0, 0); return drain(60)
def by_name(fd): return drain(os.open("/proc/self/fd/%d" % fd, os.O_RDONLY))
def positioned(fd): return b"".join(os.pread(fd, 1000, at) for at in range(0, 1 << 20, 1000))
def vectors(fd):
    text = b""
    while (n := os.readv(fd, parts := [bytearray(700), bytearray(9000)])): text += b"".join(map(bytes, parts))[:n]
    return text
def sendfile(fd):
    out = os.memfd_create("x")
    try:
        while os.sendfile(out, fd, None, 60000): pass
    except OSError: # Linux refuses: it is whole or not at all
        return drain(fd)
    os.lseek(out, 0, 0)
    return drain(out)
def child(fd):
    os.read(fd, 3000)
    r, w = os.pipe()
    if not os.fork():
        os.lseek(fd, 0, 0)
        text = drain(fd)
        while text: text = text[os.write(w, text):]
        os._exit(0)
    os.close(w)
    return drain(r)
for path in "/proc/self/maps", "/proc/self/smaps":
    plain = drain(os.open(path, os.O_RDONLY)).count(b"\n")
    for way in again, dup, dup2, by_name, positioned, vectors, sendfile, child:
        fd = os.open(path, os.O_RDONLY)
        text = way(fd)
        print(path, way.__name__, abs(text.count(b"\n") - plain) <= 75 and text.endswith(b"\n") and text.count(b"-") > 250)
        os.close(fd)
first = os.read(os.open("/proc/self/smaps", os.O_RDONLY), 100000)
print("a page of whole blocks", 3000 < len(first) <= 4096 and first.rstrip().splitlines()[-1].startswith(b"VmFlags"))
for command in "cat /dev/stdin < %s", "cat %s", "set -f; while read x; do echo $x; done < %s":
    text = subprocess.run(["bash", "-c", command % "/proc/self/maps"], capture_output=True).stdout
    print(command, text.count(b"\n") > 12 and b"[stack]" in text)
"""


def ways_of_reading():
    """Files made as they are read are whole in whatever way they are read, natively and inside."""
    _, host, _ = outcome([sys.executable, "-c", WAYS])
    code, out, errors = run("--memory", "256M", "--", sys.executable, "-c", WAYS)
    expect(code == 0 and out.count("True") == 20 and "False" not in out, f"{code}: {out} {errors}")
    expect(out == host, f"natively: {host}")


TESTS = [same_load, memory_of_machine, tools_as_on_the_host, tools, shortage, shortage_as_on_the_host, pressure, ways_of_reading]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
