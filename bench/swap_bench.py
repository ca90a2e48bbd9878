"""Swap, for bench.py: what it costs to put pages out and to have them back, and programs that want 1.5 times the memory there is.

The peer of the programs is the same program in a memory cgroup of the same size that swaps to zram (lz4), where this machine lets us
have one; else the same program natively without a limit, and the heading says so.  Beside a cgroup Quire has less room: its
compressed pages and page tables count as memory of the machine, zram's do not count as memory of the cgroup.
"""
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

WORKING_SET = 1.5
PROGRAM_AIM = 1.5
LIMIT = 60  # seconds

DICT = """
n = 450000
d = {i: "value %d" % i for i in range(n)}
at = total = 0
for _ in range(n):
    at = (at * 5 + 12345) % n
    total += len(d[at])
d.update((i, "other %d" % i) for i in range(0, n, 3))
assert len(d) == n and total > n
"""
SQL = """
create table t(k integer primary key, a text, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 220000)
insert into t select i * 7919 % 220009, hex(i * 48271), printf('row %d of the table, and something about it: %d', i, i * i) from n;
create index by_a on t(a);
select sum(length(b)) from t where a > '5';
update t set b = b || '!' where k % 4 = 0;
select count(*) from t as x join t as y on y.k = x.k / 2;
"""
REDIS = """
redis-server --port 0 --unixsocket $T/socket --save '' --appendonly no --daemonize no --enable-debug-command yes >/dev/null &
until redis-cli -s $T/socket ping >/dev/null 2>&1; do sleep 0.02; done
redis-cli -s $T/socket debug populate 300000 key 120 >/dev/null
redis-benchmark -s $T/socket -q -P 16 -c 8 -n 200000 -r 300000 get key:__rand_int__ >/dev/null
redis-cli -s $T/socket shutdown nosave >/dev/null 2>&1
wait
"""
PROGRAMS = [
    ("python3, a dict", "python3", "python3 $T/dict.py"),
    ("sort of a large file", "sort", "sort -S 100M --parallel=1 $T/long > /dev/null"),
    ("sqlite3 in memory", "sqlite3", "sqlite3 :memory: < $T/sql > /dev/null"),
    ("redis, reads at random", "redis-benchmark", REDIS),
]


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(str(text))


def read(path):
    with open(path, encoding="ascii") as f:
        return f.read()


class Cgroup:
    """A cgroup of our own below the one that we are in (version 2: below the nearest that gives memory to its children)."""

    def __init__(self):
        lines = read("/proc/self/cgroup").split()
        mine = {controller: path for _, names, path in (line.split(":", 2) for line in lines) for controller in names.split(",")}
        mounts = {fields[1]: fields for fields in map(str.split, read("/proc/self/mounts").splitlines())}
        v1 = [m for m, f in mounts.items() if f[2] == "cgroup" and "memory" in f[3].split(",")]
        v2 = [m for m, f in mounts.items() if f[2] == "cgroup2"]
        self.path, self.files = None, ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        if v1:
            parent = v1[0] + mine["memory"]
        elif v2:
            parent, self.files = v2[0] + mine[""], ("memory.max", "memory.swap.max")
            while "memory" not in read(f"{parent}/cgroup.subtree_control").split():
                if parent == v2[0]:
                    raise OSError("no cgroup gives memory to its children")
                parent = os.path.dirname(parent)
        else:
            raise OSError("no memory cgroups")
        path = f"{parent}/quire-bench-{os.getpid()}"
        os.mkdir(path)
        self.path = path
        if not os.path.exists(f"{path}/{self.files[1]}"):
            self.close()
            raise OSError("this host's cgroups do not limit swap")

    def limit(self, memory, swap):
        memory_file, swap_file = (f"{self.path}/{name}" for name in self.files)
        if "memsw" in swap_file:
            write(swap_file, -1)
            write(memory_file, memory)
            write(swap_file, memory + swap)
        else:
            write(memory_file, memory)
            write(swap_file, swap)

    def close(self):
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.02)


class Zram:
    """/dev/zram0 as the host's swap.  Only where nobody uses it yet."""

    def __init__(self, size):
        self.block = "/sys/block/zram0"
        if os.geteuid() or not os.path.exists(self.block):
            raise OSError("no zram for us")
        if read(f"{self.block}/initstate").strip() != "0" or len(read("/proc/swaps").splitlines()) > 1:
            raise OSError("zram or other swap is in use")
        try:
            write(f"{self.block}/comp_algorithm", "lz4")
            write(f"{self.block}/disksize", size)
            subprocess.run(["mkswap", "/dev/zram0"], check=True, capture_output=True)
            subprocess.run(["swapon", "-p", "32767", "/dev/zram0"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            raise OSError(f"zram: {error}") from error

    def close(self):
        subprocess.run(["swapoff", "/dev/zram0"], check=False, capture_output=True)
        with contextlib.suppress(OSError):
            write(f"{self.block}/reset", 1)


def stop(signum, frame):
    sys.exit(1)


@contextlib.contextmanager
def limited(size):
    """A Cgroup that swaps to zram; or the reason why not, as text.  Undone in the end, also when we are told to stop."""
    cgroup = zram = None
    before = signal.signal(signal.SIGTERM, stop)
    try:
        try:
            zram = Zram(size)
            cgroup = Cgroup()
            peer = cgroup
        except OSError as error:
            peer = str(error)
        yield peer
    finally:
        for made in (cgroup, zram):
            if made:
                made.close()
        signal.signal(signal.SIGTERM, before)


def numbers(command):
    """What a measurement prints, as floats; None if it failed."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=True)
        return [float(word) for word in done.stdout.split()]
    except (subprocess.SubprocessError, ValueError):
        return None


def medians(rounds, *commands):
    """Of each command's numbers, the commands run in turn; None if one failed."""
    found = [[] for _ in commands]
    for _ in range(rounds):
        for command, results in zip(commands, found):
            results.append(numbers(command))
            if results[-1] is None:
                return None
    return [[statistics.median(column) for column in zip(*results)] for results in found]


def out_and_in(quire, guest, line, rounds, wanted):
    failed = 0
    for folio in ("4K", "64K"):
        for order in ("sequential", "random"):
            titles = [f"swap-in beside first touch, {folio} {order}", f"reclaim without lz4 beside mprotect+memcpy, {folio}"]
            if not wanted(*titles):
                continue
            found = medians(rounds, [guest, "peer"], [guest, "compress"],
                            [quire, "run", "--memory", "1G", "--swap", "1G", "--folio-max", folio, "--", guest, "out_in", order])
            if not found:
                failed += line(titles[0], None, None, "", None) is None
                continue
            (peer,), (compress,), (first, out, back) = found
            line(titles[0], first, back, "ns/page", 3.0)
            if order == "sequential":
                line(titles[1], peer * 16, (out - compress) * 16, "ns/64K", 3.0)
    return failed


def run_shell(command, env, before=(), cgroup=None):
    """Seconds and peak memory in bytes (of its largest process) of a shell command, None if it failed."""
    shell = ["/bin/bash", "-c", command]
    if cgroup:
        shell = ["/bin/bash", "-c", f"echo $$ > {cgroup.path}/cgroup.procs && exec \"$@\"", "enter", *shell]
    start = time.monotonic()
    process = subprocess.Popen([*before, *shell], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=env, start_new_session=True)
    timer = threading.Timer(LIMIT, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    spent = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return (spent, usage.ru_maxrss * 1024) if process.returncode == 0 else None


def one_program(quire, name, command, env, cgroup, line, rounds):
    """True if it could be measured.  The first run, without a limit, says how much memory the program wants."""
    free = run_shell(command, env)
    if not free:
        return line(f"{name}: natively", None, None, "", None) is not None
    memory = int(free[1] / WORKING_SET) >> 20 << 20
    swap = 2 * free[1] >> 20 << 20
    machine = [quire, "run", "--memory", str(memory), "--swap", str(swap), "--"]
    found = {"peer": [], "quire": []}
    if cgroup:
        cgroup.limit(memory, swap)
    for _ in range(rounds):
        for who, times in found.items():
            done = None
            # Version 1 of memory cgroups kills what fills its memory fast now and then, although there is swap.
            for _ in range(1 if who == "quire" else 4):
                done = done or run_shell(command, env, *(((), cgroup) if who == "peer" else (machine,)))
            times.append(done and done[0] * 1000)
    failed = [who for who, times in found.items() if None in times]
    title = f"{name} in {memory >> 20} MiB of {free[1] >> 20}"
    if failed:
        print(f"{title:44} not measured: failed under {' and '.join(failed)}", flush=True)
        return False
    line(title, statistics.median(found["peer"]), statistics.median(found["quire"]), "ms", PROGRAM_AIM)
    return True


def shortage(quire, line, rounds, wanted):
    failed = 0
    with tempfile.TemporaryDirectory(prefix="quire-bench-") as directory, limited(1 << 30) as cgroup:
        if isinstance(cgroup, str):
            print(f"---- 1.5 x memory: natively WITHOUT a limit ({cgroup}), quire run --memory --swap")
            cgroup = None
        else:
            print("---- 1.5 x memory: natively in a memory cgroup with zram (lz4), quire run --memory --swap")
        write(f"{directory}/dict.py", DICT)
        write(f"{directory}/sql", SQL)
        with open(f"{directory}/long", "w", encoding="ascii") as f:
            f.writelines(f"{i * 7919 % 500009} and some more on the same line\n" for i in range(500000))
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "T": directory, "LC_ALL": "C", "HOME": directory}
        for name, needs, command in PROGRAMS:
            if wanted(f"swap {name}") and shutil.which(needs, path=env["PATH"]):
                failed += not one_program(quire, name, command, env, cgroup, line, rounds)
    return failed
