#!/usr/bin/env python3
"""Commands that reach a running machine: exec, ps, maps, cat, dmesg, translate, devmem; --name, --keep; their errors, and deaths.

Environment: QUIRE (the program).  Machines are named in a directory of this test's own.
"""
import contextlib
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import QUIRE, Failed, eventually, exit_code, expect, meminfo, outcome

RUNTIME = tempfile.mkdtemp(prefix="quire-diff-control-")
ENVIRONMENT = dict(os.environ, XDG_RUNTIME_DIR=RUNTIME, LC_ALL="C")
SOCKETS = os.path.join(RUNTIME, "quire")


def quire(*arguments, given="", timeout=harness.PATIENCE, env=None):
    return harness.quire(*arguments, timeout=timeout, given=given, env=env or ENVIRONMENT)


def good(*arguments, **more):
    code, out, errors = quire(*arguments, **more)
    expect(code == 0, f"quire {' '.join(arguments)}: exit code {code}: {errors}")
    return out


def refused(*arguments, says, **more):
    code, out, errors = quire(*arguments, **more)
    expect(code == 125 and not out, f"quire {' '.join(arguments)}: exit code {code}, output {out!r}")
    expect(re.search(says, errors), f"quire {' '.join(arguments)} says {errors!r}, not {says!r}")


def machines():
    """Of this test: commands look into other directories too, where others' machines may be."""
    ours = os.listdir(SOCKETS) if os.path.exists(SOCKETS) else []
    return [name for name in (line.split()[0] for line in good("ps").splitlines()[1:]) if name in ours]


def processes(name):
    """pid -> (ppid, state, VSZ in KiB, RSS in KiB, command)."""
    lines = good("ps", name).splitlines()
    expect(lines[0].split() == ["PID", "PPID", "S", "VSZ", "RSS", "COMMAND"], f"ps begins with {lines[0]!r}")
    found = {}
    for line in lines[1:]:
        match = re.fullmatch(r" *(\d+) +(\d+) ([RSDTtZXI]) +(\d+) +(\d+) (.*)", line)
        expect(match, f"a line of ps is {line!r}")
        found[int(match[1])] = (int(match[2]), match[3], int(match[4]), int(match[5]), match[6])
    return found


@contextlib.contextmanager
def machine(name, *program, options=(), keep=True, env=None):
    """A machine that runs for the duration of the block; its process."""
    command = [QUIRE, "run", "--memory", "256M", "--name", name, *(["--keep"] if keep else []), *options, "--",
               *(program or ("true",))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=env or ENVIRONMENT)
    try:
        expect(eventually(lambda: quire("ps", name, env=env)[0] == 0), f"machine {name} does not answer: {process.poll()}")
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        exit_code(process, 60)
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def first_pid(name, command="sleep"):
    """The process that runs the command: machines answer before their first program runs."""
    found = []
    expect(eventually(lambda: found.extend(p for p, d in processes(name).items() if d[4] == command) or found), f"no {command} on {name}")
    return found[0]


def wait_ended(name):
    """Until the first program of a kept machine has come and gone, and the supervisor knows."""
    expect(eventually(lambda: not processes(name)), "the first program is still there")
    time.sleep(0.2)


# A guest with a page of its own: prints where it lies, then what it holds whenever it is asked.
HOLDER = """
import ctypes, mmap, os, sys
m = mmap.mmap(-1, 8192, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:16] = b'written by guest'
print(os.getpid(), hex(ctypes.addressof(ctypes.c_char.from_buffer(m))), flush=True)
for line in sys.stdin:
    print(m[:16].hex(), flush=True)
"""


@contextlib.contextmanager
def holder(name):
    process = subprocess.Popen([QUIRE, "exec", name, "--", sys.executable, "-c", HOLDER], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        pid, address = process.stdout.readline().split()
        yield process, int(pid), int(address, 16)
    finally:
        process.stdin.close()
        process.stdout.close()
        exit_code(process, 60)


def keeping():
    """--keep: the machine outlives its first program, takes others, and ends when told, with the first one's exit code."""
    with machine("kept", "sh", "-c", "echo ran; exit 5") as process:
        expect(process.stdout.readline() == "ran\n", "it did not run")
        wait_ended("kept")
        expect(process.poll() is None, f"it ended with {process.returncode}")
        expect(not good("ps", "kept").splitlines()[1:], "who is there?")
        expect(good("exec", "kept", "--", "echo", "joined") == "joined\n", "exec says something else")
        expect(good("exec", "kept", "echo", "-n", "without dashes") == "without dashes", "exec without -- fails")
        process.terminate()
        expect(process.wait(60) == 5, f"exit code {process.returncode}")
    expect(not os.path.exists(SOCKETS), f"left behind: {os.listdir(SOCKETS) if os.path.exists(SOCKETS) else ''}")
    with machine("not-kept", "cat", keep=False) as process:
        process.stdin.close()
        expect(process.wait(60) == 0, f"without --keep: exit code {process.returncode}")
    with machine("kept", "sh", "-c", "trap 'exit 6' TERM; echo ran; while :; do sleep 0.05; done") as process:
        process.stdout.readline()
        process.terminate()
        expect(process.wait(60) == 6, f"told to end while the first program runs: {process.returncode}")
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        with machine("kept", "echo", "ran") as process:
            process.stdout.readline()
            wait_ended("kept")
            process.send_signal(sig)
            expect(process.wait(60) == 0, f"{sig.name}: exit code {process.returncode}")


def listing():
    """ps lists machines with what they are, and processes with their states and sizes."""
    expect(good("ps").split()[:5] == ["NAME", "PID", "MEMORY", "USED", "PROCESSES"], "no header")
    expect(machines() == [], "machines before any was started")
    with machine("first", "sleep", "1000") as one, machine("second", "sleep", "1000") as two:
        expect(first_pid("first") != first_pid("second"), "one process in two machines")
        lines = {line.split()[0]: line.split()[1:] for line in good("ps").splitlines()[1:]}
        expect(machines() == ["first", "second"], f"ps lists {lines}")
        for name, process in (("first", one), ("second", two)):
            pid, memory, used, number = (int(n) for n in lines[name])
            expect(pid == process.pid and memory == 256 << 10 and 0 < used < memory and number == 1, f"{name}: {lines[name]}")
            (pid, (ppid, state, vsz, rss, command)), = processes(name).items()
            expect(ppid == process.pid and state == "S" and command == "sleep", f"{ppid} {state} {command}")
            status = good("cat", name, f"{pid}/status")
            fields = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.M))
            expect(int(fields["VmSize"]) == vsz and int(fields["VmRSS"]) == rss and 0 < rss < vsz, f"{vsz} {rss}: {status}")
            expect(fields["Name"] == "sleep" and fields["Pid"] == str(pid), status)
        pid = first_pid("first")
        os.kill(pid, signal.SIGSTOP)
        expect(eventually(lambda: processes("first")[pid][1] == "T"), "a stopped process does not show as T")
        os.kill(pid, signal.SIGCONT)
    process = subprocess.Popen([QUIRE, "run", "--", "cat"], env=ENVIRONMENT, stdin=subprocess.PIPE)
    try:
        expect(eventually(lambda: str(process.pid) in machines(), 30), "a machine without a name is not listed by its number")
    finally:
        process.stdin.close()
        process.wait(60)
    expect(str(process.pid) not in machines(), "it is still listed after its end")


MACHINE_FILES = ["meminfo", "buddyinfo", "zoneinfo", "slabinfo", "vmstat", "pagetypeinfo", "swaps", "sys/vm/overcommit_memory",
                 "/proc/meminfo"]
PROCESS_FILES = ["maps", "smaps", "smaps_rollup", "statm", "status", "stat", "cmdline", "oom_score_adj", "environ"]


def shape(text):
    """Only what does not change from moment to moment: the words."""
    return [re.sub(r"[-+]?\d+", "N", re.sub(r"\s+", " ", line)) for line in text.splitlines()]


def same(name, ours, guests):
    """The same lines; the reader shares pages with the process that it looks at, so who shares them differs."""
    if name.endswith(("/status", "/stat")):
        ours, guests = shape(ours), shape(guests)
    else:
        ours, guests = ([line for line in text.splitlines() if not re.match("(Pss|Shared|Private)_?[A-Z]?[a-z]*:", line)]
                        for text in (ours, guests))
    different = [(a, b) for a, b in zip(ours, guests) if a != b]
    expect(ours and len(ours) == len(guests) and not different, f"{name}: lines {len(ours)} {len(guests)}: {different[:5]}")


def files():
    """cat prints the machine's /proc as a guest reads it; maps is cat of maps; dmesg is the log."""
    with machine("files", "sleep", "1000"):
        pid = first_pid("files")
        for name in MACHINE_FILES:
            ours, guests = good("cat", "files", name), good("exec", "files", "--", "cat", "/proc/" + name.replace("/proc/", ""))
            expect(shape(ours) == shape(guests) and ours, f"{name}:\n{ours}\na guest reads:\n{guests}")
        for name in PROCESS_FILES:
            ours, guests = good("cat", "files", f"{pid}/{name}"), good("exec", "files", "--", "cat", f"/proc/{pid}/{name}")
            same(f"{pid}/{name}", ours, guests)
        shared = int(re.search(r"^Shared_Clean: +(\d+) kB", good("exec", "files", "--", "cat", f"/proc/{pid}/smaps_rollup"), re.M)[1])
        expect(shared > 500, f"who joins shares no pages of libc: {shared} kB")
        expect(good("maps", "files", str(pid)) == good("cat", "files", f"{pid}/maps"), "maps is not the file maps")
        expect("/sleep" in good("maps", "files", str(pid)), "no program in maps")
        expect("MemTotal:         262144 kB" in good("cat", "files", "meminfo"), "MemTotal")
        log = good("dmesg", "files")
        expect(re.match(r"\[ *\d+\.\d{6}\] Quire version", log), f"dmesg begins with {log[:80]!r}")
        good("exec", "files", "--", "sh", "-c", f"echo 300 > /proc/{pid}/oom_score_adj")
        expect(good("cat", "files", f"{pid}/oom_score_adj") == "300\n", "what a guest wrote is not seen")


def joining():
    """exec: streams, directory, environment, arguments, exit codes and signals are the caller's; memory is the machine's."""
    with machine("join", "sleep", "1000"), tempfile.TemporaryDirectory() as here:
        code, out, errors = quire("exec", "join", "--", "sh", "-c", "tr a-z A-Z; echo err >&2; exit 9", given="piped\n")
        expect((code, out, errors) == (9, "PIPED\n", "err\n"), f"{code} {out!r} {errors!r}")
        done = subprocess.run([QUIRE, "exec", "join", "--", "sh", "-c", 'pwd; echo "$MARK"; echo $#; echo "$2"', "-", "one", " two "],
                              capture_output=True, text=True, cwd=here, env=dict(ENVIRONMENT, MARK="a mark"), timeout=60, check=False)
        expect(done.stdout == f"{os.path.realpath(here)}\na mark\n2\n two \n", f"{done}")
        expect(quire("exec", "join", "--", "no-such-program")[0] == 127, "a program that is not there")
        expect(quire("exec", "join", "--", "./nothing/here")[0] == 127, "a path that is not there")
        code, _, errors = quire("exec", "join", "--", "/etc/passwd")
        expect(code == 126 and "Permission denied" in errors, f"no program: {code} {errors!r}")
        for sig in ("KILL", "TERM", "SEGV"):
            expect(quire("exec", "join", "--", "sh", "-c", f"kill -{sig} $$")[0] == 128 + getattr(signal, "SIG" + sig), sig)
        expect(good("exec", "join", "--", "grep", "MemTotal", "/proc/meminfo") == "MemTotal:         262144 kB\n", "MemTotal")
        out = good("exec", "join", "--", "sh", "-c", "sleep 0 & wait; ls / | wc -l; python3 -c 'print(sum(range(10**6)))'")
        expect(out.split()[1] == "499999500000", out)
        done = outcome(["sh", "-c", f"{QUIRE} exec join -- yes | head -2"], env=ENVIRONMENT)
        expect(done[1:] == ("y\ny\n", ""), f"{done}")
        mask = good("exec", "join", "--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
        expect("SigBlk:\t0000000000000000" in mask, mask)
        expect(good("exec", "join", "--", "ls", "/proc/self/fd").split() == ["0", "1", "2", "3"], "descriptors of ours are left")
        expect("vdso" in good("exec", "join", "--", "cat", "/proc/self/maps"), "no vdso in maps")
        expect(eventually(lambda: len(processes("join")) == 1), f"left: {processes('join')}")


def forwarding():
    """Signals sent to exec reach its program; a stop stops both; with --keep's machine all that ends with the program."""
    with machine("signals"):
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            script = f"trap 'echo got; exit 3' {sig.name[3:]}; echo up; while :; do sleep 0.05; done"
            process = subprocess.Popen([QUIRE, "exec", "signals", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True,
                                       env=ENVIRONMENT)
            expect(process.stdout.readline() == "up\n", "it did not start")
            process.send_signal(sig)
            expect(process.stdout.readline() == "got\n" and process.wait(60) == 3, f"{sig.name}: {process.returncode}")
            process.stdout.close()


def terminal():
    """On a terminal exec's program has job control: ^C reaches it, ^Z stops it together with exec."""
    with machine("tty"):
        pid, master = pty.fork()
        if pid == 0:
            os.execve("/bin/bash", ["bash", "--norc", "-i"], dict(ENVIRONMENT, PS1="P> ", TERM="dumb", HISTFILE=""))
        text = ""

        def wait_for(pattern, seconds=60):
            nonlocal text
            end = time.monotonic() + seconds
            while time.monotonic() < end and not re.search(pattern, text):
                if select.select([master], [], [], 0.1)[0]:
                    text += os.read(master, 4096).decode(errors="replace")
            expect(re.search(pattern, text), f"waited for {pattern!r}: {text!r}")
            text = ""

        def sleeps():
            """Until it runs in the foreground: keys before that are for the shell."""
            expect(eventually(lambda: any(d[1] in "RS" and d[4] == "sleep" for d in processes("tty").values())), "no sleep")
            time.sleep(0.1)
        try:
            wait_for(r"P> ")
            os.write(master, f"{QUIRE} exec tty -- bash --norc -i\n".encode())
            wait_for(r"exec tty[^\n]*\n[\s\S]*P> ")
            os.write(master, b"echo inner-$((40+2)); sleep 1000\n")
            wait_for(r"inner-42")
            sleeps()
            os.write(master, b"\x03")
            wait_for(r"P> ")
            os.write(master, b"sleep 1000\n")
            sleeps()
            os.write(master, b"\x1a")
            wait_for(r"Stopped[^\n]*sleep 1000[\s\S]*P> ")
            os.write(master, b"fg\n")
            wait_for(r"sleep 1000")
            sleeps()
            os.write(master, b"\x03")
            wait_for(r"P> ")
            os.write(master, b"exit 4\n")
            wait_for(r"exit[\s\S]*P> ")
            os.write(master, b"echo code-$?\n")
            wait_for(r"code-4")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(master)


def experiment():
    """The tutorial's experiment: a virtual address is translated, devmem writes there, and the guest sees it."""
    with machine("memory"), holder("memory") as (process, pid, address):
        def ask():
            process.stdin.write("?\n")
            process.stdin.flush()
            return bytes.fromhex(process.stdout.readline())
        text = good("translate", "memory", str(pid), hex(address + 5))
        levels = re.findall(r"^level (\d)  index +(\d+)  at 0x([0-9a-f]{16})  0x([0-9a-f]{16})  (.*)$", text, re.M)
        expect([int(level[0]) for level in levels] == list(range(len(levels))) and len(levels) in (3, 4), text)
        for level, index, at, entry, words in levels:
            expect(int(index) == (address >> (39 - 9 * int(level))) & 511, f"index of level {level}: {text}")
            expect(int(at, 16) % 4096 == int(index) * 8, f"place of level {level}: {text}")
            raw = bytes.fromhex("".join(good("devmem", "memory", "read", at, "8").split("  ")[1].split()))
            last = int(level) == len(levels) - 1
            expect(int.from_bytes(raw, "little") == int(entry, 16), f"level {level}: memory holds {raw.hex()}, not {entry}")
            expect(words.startswith(("page", "block") if last else "table"), words)
        expect(re.search(r"user, read/write, UXN, AF, nG, PXN, normal memory, inner shareable.*dirty", levels[-1][4]), levels[-1][4])
        physical = int(re.search(r"^physical 0x([0-9a-f]{16})$", text, re.M)[1], 16)
        expect(physical % 4096 == 5 and re.search(r"^frame +\d+: anonymous, refcount \d+, mapcount \d+", text, re.M), text)
        expect(f"frame    {physical >> 12}:" in text, text)
        start = physical - 5
        out = good("devmem", "memory", "read", hex(start), "16")
        expect(out == f"{start:012x}  {b'written by guest'.hex(' ')}  |written by guest|\n", out)
        good("devmem", "memory", "write", hex(start), "0xaaaa")
        expect(ask() == b"\xaa\xaaitten by guest", "the guest does not see what was written")
        good("devmem", "memory", "write", hex(start + 8), "0x41", "8")
        expect(ask() == b"\xaa\xaaitten AAAAAAAA", "the guest does not see what was repeated")
        good("devmem", "memory", "write", hex(start), "0x1122334455667788")
        expect(ask()[:8] == bytes.fromhex("8877665544332211"), "not little-endian, or not eight bytes")
        # A forked copy: the same frame twice, read-only, until someone writes.
        text = good("translate", "memory", str(pid), f"{address + 4096:x}")
        expect("physical none: a touch faults" in text, f"a page never touched: {text}")
        expect("physical none: a touch is SIGSEGV" in good("translate", "memory", str(pid), "1000"), "an address without a VMA")
        says = [quire("devmem", "memory", "write", hex(n << 20), "1")[2] for n in range(8, 256, 16)]
        expect(any("no one uses that frame" in text for text in says), f"all of the memory may be written: {says}")
        refused("devmem", "memory", "read", hex(256 << 20), says="beyond the machine's memory")
        refused("devmem", "memory", "read", hex((256 << 20) - 8), "9", says="beyond the machine's memory")
        refused("devmem", "memory", "read", "0", str(64 << 20), says="too many")


def bad_arguments():
    """Wrong arguments and unknown machines: a sentence that says what would be right, and 125."""
    refused("ps", "nobody", says="no machine named 'nobody'; (none is running|running: )")
    for command in ("exec", "maps", "cat", "dmesg", "translate", "devmem"):
        arguments = {"exec": ["--", "true"], "maps": ["1"], "cat": ["meminfo"], "dmesg": [], "translate": ["1", "0"],
                     "devmem": ["read", "0"]}[command]
        refused(command, "nobody", *arguments, says="no machine named 'nobody'")
        refused(command, "../nobody", *arguments, says="no machine named")
        refused(command, says=rf"Usage: quire {command} ")
        expect(good(command, "--help").startswith(f"Usage: quire {command} "), f"{command} --help")
    with machine("here", "sleep", "1000"):
        pid = str(first_pid("here"))
        refused("dmesg", "gone", says=r"no machine named 'gone'; running: (.*, )?here\b")
        refused("cat", "here", "no/such/file", says="no /proc file 'no/such/file'")
        refused("cat", "here", "../../etc/passwd", says="no /proc file")
        refused("cat", "here", "x" * 1000, says="too long")
        refused("cat", "here", f"{pid}/pagemap", says="array, not a text")
        refused("cat", "here", "1/maps", says="no such process")
        refused("cat", "here", "self/maps", says="no such process")
        refused("maps", "here", "one", says="not a process number")
        refused("maps", "here", "99999999999", says="not a process number")
        refused("translate", "here", pid, "zebra", says="not an address")
        refused("translate", "here", "1", "1000", says="no such process")
        refused("devmem", "here", "peek", "0", says="read or write")
        refused("devmem", "here", "write", "0", says="Usage")
        refused("devmem", "here", "write", "0", "much", says="not a value")
        refused("devmem", "here", "read", "0", "0", says="not a number of bytes")
        refused("exec", "here", "--", says="Usage")
        refused("run", "--name", "here", "--", "true", says="named 'here' is running already")
        expect(eventually(lambda: machines() == ["here"]), "a refused machine left something")


def other_build():
    """A program with another kernel inside may look, but not join."""
    with machine("build", "sleep", "1000"), tempfile.TemporaryDirectory() as directory:
        changed = os.path.join(directory, "quire")
        with open(QUIRE, "rb") as f:
            image = bytearray(f.read())
        # The build id lies behind the kernel's ELF image, and stands in the refusal that a wrong one gets.
        request = bytearray(4 + 4 + 8 + 4 + 4 + 24 + 128)
        request[:8] = (0x51430001).to_bytes(4, "little") + (7).to_bytes(4, "little")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(os.path.join(SOCKETS, "build"))
            s.send(request)
            answer = s.recv(65536)
        identity = re.search(rb"kernel ([0-9a-f]{16})", answer)
        expect(identity, f"the machine answers {answer[:300]!r}")
        raw = int(identity[1], 16).to_bytes(8, "little")
        expect(image.count(raw) == 1, f"the build id stands {image.count(raw)} times in the program")
        at = image.index(raw)
        image[at] ^= 0xff
        with open(changed, "wb") as f:
            f.write(image)
        os.chmod(changed, 0o755)
        code, _, errors = outcome([changed, "exec", "build", "--", "true"], env=ENVIRONMENT)
        expect(code == 125 and "another build of quire" in errors, f"{code} {errors!r}")
        code, out, errors = outcome([changed, "ps", "build"], env=ENVIRONMENT)
        expect(code == 0 and "sleep" in out, f"{code} {out!r} {errors!r}")


def rude_clients():
    """Clients that send rubbish, stop reading, come in crowds or die in the middle disturb nobody."""
    with machine("rude", "sleep", "1000"):
        pid = first_pid("rude")
        path = os.path.join(SOCKETS, "rude")
        for rubbish in (b"x", b"\0" * 176, os.urandom(176), os.urandom(60000)):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.connect(path)
                s.send(rubbish)
                s.settimeout(60)
                expect(b"speaks otherwise" in s.recv(65536), "rubbish is answered otherwise")
        request = bytearray(4 + 4 + 8 + 4 + 4 + 24 + 128)
        request[:8] = (0x51430001).to_bytes(4, "little") + (5).to_bytes(4, "little")
        request[24 + 16:24 + 24] = (8 << 20).to_bytes(8, "little")
        crowd = []
        for _ in range(20):  # 8 MiB each that nobody reads
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.connect(path)
            s.send(request)
            crowd.append(s)
        start = time.monotonic()
        expect(pid in processes("rude"), "no answer beside slow readers")
        expect(time.monotonic() - start < 30, "slow readers slow others down")
        for s in crowd:
            s.close()
        crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(300)]
        for s in crowd:
            s.connect(path)
        refused("ps", "rude", says="too many commands|does not answer")
        for s in crowd:
            s.close()
        expect(eventually(lambda: quire("ps", "rude")[0] == 0), "no answer after a crowd")
        for _ in range(10):
            process = subprocess.Popen([QUIRE, "cat", "rude", f"{pid}/smaps"], stdout=subprocess.PIPE, env=ENVIRONMENT)
            process.kill()
            process.wait()
            process.stdout.close()
        expect(list(processes("rude")) == [pid], f"left: {processes('rude')}")


def killed_clients():
    """kill -9 of exec at any moment ends its program and nothing else; the machine's books stay right."""
    with machine("killed", "sleep", "1000"):
        for i in range(30):
            process = subprocess.Popen([QUIRE, "exec", "killed", "--", sys.executable, "-c", "while True: x = bytearray(1 << 20)"],
                                       env=ENVIRONMENT)
            time.sleep(0.004 * i)
            process.kill()
            process.wait()
        expect(eventually(lambda: len(processes("killed")) == 1), f"left: {processes('killed')}")
        fields = [meminfo(good("cat", "killed", "meminfo").splitlines()) for _ in range(2)]
        expect(fields[1]["AnonPages"] < 2000, f"anonymous memory is left: {fields[1]['AnonPages']} kB")
        expect(good("exec", "killed", "--", "echo", "still here") == "still here\n", "the machine takes nobody any more")


def many_at_once():
    """Many programs join at the same time, in two machines."""
    with machine("crowd1"), machine("crowd2"):
        results = []

        def one(i):
            name = f"crowd{i % 2 + 1}"
            results.append(quire("exec", name, "--", "sh", "-c", f"echo {i}; exit {i}"))
        threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        expect(sorted(code for code, _, _ in results) == list(range(24)), f"{results}")
        expect(all(out == f"{code}\n" for code, out, _ in results), f"{results}")


def machine_ends():
    """When the machine ends, who joined ends: with 125 and the reason; after a crash too, and the name is free again."""
    for how, says in (("first", "first program ended"), ("kill", "supervisor was killed"), ("asked", "it was told to")):
        with machine("ending", *(["cat"] if how == "first" else ["true"]), keep=how != "first") as process:
            guest = subprocess.Popen([QUIRE, "exec", "ending", "--", "sh", "-c", "echo up; exec sleep 1000"], env=ENVIRONMENT,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            expect(guest.stdout.readline() == "up\n", "it did not start")
            if how == "first":
                process.stdin.close()
            elif how == "kill":
                process.kill()
            else:
                process.terminate()
            try:
                _, errors = guest.communicate(timeout=60)
            except subprocess.TimeoutExpired as error:
                guest.kill()
                raise Failed(f"{how}: exec goes on without a machine") from error
            expect(guest.returncode == 125 and says in errors, f"{how}: {guest.returncode} {errors!r}")
            process.wait(60)
        if how == "kill":
            expect("ending" in os.listdir(SOCKETS), "no stale socket to clear away")
            with machine("ending", "true"):
                expect(good("exec", "ending", "--", "echo", "again") == "again\n", "the name is not free again")
    with machine("stale") as process:
        process.kill()
        process.wait()
        expect("stale" in os.listdir(SOCKETS) and "stale" not in good("ps"), "a dead machine is listed")
        # The first program may have been on its way, with the socket still open.
        expect(eventually(lambda: good("ps") and "stale" not in os.listdir(SOCKETS)), "its socket is left after somebody looked")


def out_of_memory():
    """A program that joined is counted and killed like any other, and the exit code says so."""
    with machine("oom", "sleep", "1000"):
        code, _, _ = quire("exec", "oom", "--", sys.executable, "-c", "x = [bytearray(1 << 20) for _ in range(1000)]")
        expect(code == 137, f"exit code {code}")
        expect(re.search(r"Out of memory: Killed process \d+ \(python", good("dmesg", "oom")), "dmesg does not tell")
        expect(len(processes("oom")) == 1, f"others died: {processes('oom')}")


def temporary_directory():
    """Without XDG_RUNTIME_DIR sockets lie in a directory in /tmp that nobody else may enter, and go with the last machine."""
    env = {k: v for k, v in ENVIRONMENT.items() if k != "XDG_RUNTIME_DIR"}
    path = f"/tmp/quire-{os.geteuid()}"
    name = f"control-test-{os.getpid()}"
    with machine(name, "sleep", "1000", env=env):
        expect(os.stat(path).st_mode & 0o777 == 0o700, oct(os.stat(path).st_mode))
        expect(good("exec", name, "--", "echo", "hi", env=env) == "hi\n", "exec")
        # Commands look there even if their own environment names another directory.
        expect(good("exec", name, "--", "echo", "hi") == "hi\n", "exec from another environment")
    expect(not os.path.exists(os.path.join(path, name)), "the socket is left")


def other_users():
    """Another user's machine: root may look but not join; a third user sees nothing of it; that user's own commands work."""
    if os.geteuid():
        print("skipped: other_users needs root", flush=True)
        return
    directory = tempfile.mkdtemp(prefix="quire-diff-user-")
    try:
        os.chmod(directory, 0o755)
        program = shutil.copy(QUIRE, directory)
        env = {k: v for k, v in ENVIRONMENT.items() if k != "XDG_RUNTIME_DIR"}

        def as_user(uid, *arguments):
            command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", program, *arguments]
            return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                    text=True, cwd="/")

        def ended(uid, *arguments):
            process = as_user(uid, *arguments)
            out, errors = process.communicate(timeout=60)
            return process.returncode, out, errors
        name = f"users-{os.getpid()}"
        process = as_user(65534, "run", "--memory", "64M", "--name", name, "--keep", "--", "sleep", "1000")
        try:
            expect(eventually(lambda: ended(65534, "ps", name)[1].count("sleep") == 1), "the owner's own ps")
            expect(ended(65534, "exec", name, "--", "id", "-u")[:2] == (0, "65534\n"), "the owner's own exec")
            code, _, errors = ended(65533, "ps", name)
            expect(code == 125 and f"no machine named '{name}'" in errors, f"a third user: {code} {errors!r}")
            expect("sleep" in good("ps", name) and name in good("ps"), "root cannot look")
            refused("exec", name, "--", "true", says="belongs to user 65534")
        finally:
            process.terminate()
            process.communicate(timeout=60)
        expect(not os.path.exists(f"/tmp/quire-65534/{name}"), "the socket is left")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def low_limits():
    """A soft limit on descriptors below the kernel's own one bites neither the first program nor one that joins."""
    with machine("limits", "sleep", "1000"):
        for command in ("run --", "exec limits --"):
            script = f"ulimit -S -n 64; exec {QUIRE} {command} sh -c 'ulimit -n; ulimit -n | cat; ls /proc/self/fd'"
            code, out, errors = outcome(["bash", "-c", script], env=ENVIRONMENT)
            expect(code == 0 and out.split()[:2] == ["64", "64"], f"{command}: {code} {out!r} {errors!r}")


def stopped_supervisor():
    """A supervisor that was stopped keeps no command waiting for ever, and goes on afterwards."""
    with machine("stopped", "sleep", "1000") as process:
        process.send_signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            code, out, errors = quire("ps")
            expect(code == 0 and "stopped" not in out and "does not answer" in errors, f"{code} {out!r} {errors!r}")
            expect(time.monotonic() - start < 60, "it waits too long")
        finally:
            process.send_signal(signal.SIGCONT)
        expect("sleep" in good("ps", "stopped"), "it does not go on")


TESTS = [listing, keeping, files, joining, forwarding, terminal, experiment, bad_arguments, other_build, rude_clients,
         killed_clients, many_at_once, machine_ends, out_of_memory, temporary_directory, other_users,
         low_limits, stopped_supervisor]


if __name__ == "__main__":
    try:
        status = harness.run_tests(TESTS, also=(ValueError,))
    finally:
        shutil.rmtree(RUNTIME, ignore_errors=True)
    sys.exit(status)
