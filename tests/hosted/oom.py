#!/usr/bin/env python3
"""The OOM killer of a hosted machine: the tutorial's program, who dies beside whom, settings, victims that do not die.

Environment: QUIRE (the program).
"""
import ctypes
import os
import re
import subprocess
import sys
import tempfile

from harness import PATIENCE, PROGRAMS, QUIRE, Lines, descendants, expect, run, run_logged, run_tests

ENDLESS = f"{PROGRAMS}/endless_malloc"
# Maps argument 1 in MiB, waits for argument 3 in seconds, touches them, says so, and sleeps for argument 2 in seconds.
HOLD = ("import sys,time,mmap\nb=mmap.mmap(-1,int(sys.argv[1])<<20,flags=mmap.MAP_PRIVATE|mmap.MAP_ANONYMOUS)\n"
        "time.sleep(float((sys.argv+[0])[3]))\nfor i in range(0,len(b),4096): b[i]=1\nprint('holds',flush=True)\n"
        "time.sleep(float(sys.argv[2]))\nprint('lived',flush=True)")
os.environ["HOLD"] = HOLD
os.environ["PYTHON"] = sys.executable # not a wrapper script, which would be many processes more


def killed(text):
    """(pid, name) of each line that egrep -i 'killed process' finds."""
    found = subprocess.run(["egrep", "-i", "killed process"], input=text, capture_output=True, text=True).stdout
    return re.findall(r"Killed process (\d+) \(([^)]*)\)", found)


def kilobytes(line, name):
    return int(re.search(rf"{name}:(\d+)kB", line)[1])


def tutorial():
    """Endless malloc in 64M: prints its megabytes, is killed (137); one line on standard error; the report reads as Linux's."""
    code, out, errors, log = run_logged("--memory", "64M", "--", ENDLESS)
    expect(code == 137, f"exit code {code}")
    megabytes = int(re.findall(r"Now allocated (\d+) Megabytes", out)[-1])
    expect(52 <= megabytes <= 64, f"{megabytes} megabytes in a machine of 64")
    expect(len(errors.splitlines()) == 1 and killed(errors), f"standard error: {errors!r}")
    victims = killed(log)
    expect(len(victims) == 1 and victims[0][1] == "endless_malloc", f"killed: {victims}")
    pid, line = victims[0][0], next(l for l in log.splitlines() if "Killed process" in l)
    expect(megabytes << 10 <= kilobytes(line, "anon-rss") <= 64 << 10, line)
    expect(kilobytes(line, "total-vm") >= kilobytes(line, "anon-rss"), line)
    # The parts of Linux's report, in its order.
    at = 0
    for part in (r"endless_malloc invoked oom-killer: gfp_mask=0x[0-9a-f]+\([A-Z_|]+\), order=0, oom_score_adj=0$",
                 rf"CPU: \d+ UID: \d+ PID: {pid} Comm: endless_malloc ", r"Mem-Info:$", r"active_anon:\d+ inactive_anon:\d+ ",
                 r"Node 0 active_anon:\d+kB ", r"Node 0 DMA(32)? free:\d+kB boost:0kB min:\d+kB low:\d+kB high:\d+kB ",
                 r"lowmem_reserve\[\]: ", r"Node 0 DMA(32)?: \d+\*4kB ", r"\d+ total pagecache pages$", r"Free swap  = 0kB$",
                 r"Total swap = 0kB$", r"16384 pages RAM$", r"Tasks state \(memory values in pages\):$",
                 r"\[  pid  \]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name$",
                 rf"\[ *{pid}\] +\d+ +{pid} +\d+ +\d+ +\d+ +\d+ +\d+ +\d+ +0 +0 endless_malloc$",
                 rf"oom-kill:constraint=CONSTRAINT_NONE,.*,global_oom,.*,task=endless_malloc,pid={pid},uid=\d+$",
                 rf"Out of memory: Killed process {pid} "):
        found = re.compile(r"^\[ *\d+\.\d{6}\] " + part, re.M).search(log, at)
        expect(found, f"no {part!r} behind the part before it:\n{log}")
        at = found.end()
    explained(log[at:], megabytes)


def explained(text, megabytes):
    """The plain words behind the report: numbers that agree with what happened."""
    memory = re.search(r"oom: memory: 64\.0 MiB in all: ([\d.]+) programs' own, ([\d.]+) shared, ([\d.]+) of files, ([\d.]+) page "
                       r"tables, ([\d.]+) kernel objects, ([\d.]+) compressed swap, ([\d.]+) else, ([\d.]+) free", text)
    expect(memory, text)
    sizes = [float(size) for size in memory.groups()]
    expect(abs(sum(sizes) - 64) < 0.6 and megabytes <= sizes[0] <= megabytes + 3, f"{sizes} for {megabytes} MB")
    expect("oom: swap: none" in text, text)
    programs = re.search(r"oom: programs: endless_malloc \(\d+\) ([\d.]+) MiB", text)
    expect(programs and float(programs[1]) >= megabytes, text)
    reclaim = re.search(r"oom: reclaim: looked at (\d+) pages and freed (\d+) \(.*\) in the [\d.]+ s since the machine started; "
                        r"at last \d+ looked at, 0 freed; left: ([\d.]+) MiB of programs and no swap to put them in", text)
    expect(reclaim and float(reclaim[3]) >= megabytes, text)
    expect(re.search(r"oom: victim: endless_malloc \(\d+\): \d+ points = ", text), text)
    helped = re.search(r"oom: what would have helped: ([\d.]+) MiB more, .*: --memory (\d+)M, or --swap (\d+)M", text)
    expect(helped and 64 < int(helped[2]) < 80 and 0 < int(helped[3]) < 20, text)


def remedy_is_right():
    """What the report says would have helped does: two programs that ask first and use later, with that --memory, with that --swap."""
    script = "$PYTHON -c \"$HOLD\" 45 3 0.5 & $PYTHON -c \"$HOLD\" 45 3 0.5 & wait"
    _, out, _, log = run_logged("--memory", "64M", "--", "bash", "-c", script)
    expect(out.count("lived") < 2 and killed(log), f"nobody was killed: {out}")
    memory, swap = re.search(r"--memory (\d+)M, or --swap (\d+)M", log).groups()
    expect(100 < int(memory) < 140, f"--memory {memory}M?")
    for options in (("--memory", f"{memory}M"), ("--memory", "64M", "--swap", f"{swap}M")):
        code, out, errors = run(*options, "--", "bash", "-c", script)
        expect(code == 0 and out.count("lived") == 2, f"{options}: {code} {out} {errors}")


def protected_lives():
    """Beside a bigger program with oom_score_adj -1000 the smaller one dies; without the protection the bigger, and then the other."""
    for adjust, dead, big, seconds in (("-1000", ["endless_malloc"], "lived", 5), ("0", ["python3", "endless_malloc"], "", 100)):
        script = (f"exec 3< <(echo {adjust} > /proc/self/oom_score_adj; exec $PYTHON -c \"$HOLD\" 60 {seconds}); read -u3 x;"
                  f"{ENDLESS} > /dev/null; echo small $?; read -u3 y; echo big $y")
        code, out, errors, log = run_logged("--memory", "96M", "--", "bash", "-c", script)
        victims = [name for _, name in killed(log)]
        expect(len(victims) == len(dead) and all(v.startswith(d) for v, d in zip(victims, dead)), f"adj {adjust}: {victims}: {out} {errors}")
        expect(out == f"small 137\nbig {big}".rstrip() + "\n", f"adj {adjust}: {out} {errors}")
        expect(("1 spared by oom_score_adj -1000" in log) == (adjust == "-1000"), log)


def score_adj_for_guests():
    """/proc/PID/oom_score_adj: inherited by fork, kept by exec, wrong values refused; oom_score follows."""
    script = ("echo 300 > /proc/self/oom_score_adj; bash -c 'cat /proc/self/oom_score_adj; cat /proc/$$/oom_score';"
              "(echo -500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj);"
              "cat /proc/$$/oom_score_adj; (echo 1001 > /proc/self/oom_score_adj) 2>/dev/null || echo refused;"
              "(echo -1000 > /proc/self/oom_score_adj; bash -c 'cat /proc/self/oom_score')")
    code, out, errors = run("--", "bash", "-c", script)
    lines = out.split()
    expect(code == 0 and lines[0] == "300" and 800 <= int(lines[1]) <= 900 and lines[2:] == ["-500", "300", "refused", "0"],
           f"{code}: {lines} {errors}")


def further_by_the_swap():
    """With swap it gets further by about the swap's worth: the report tells how full it was."""
    def megabytes(*options):
        code, out, _, log = run_logged(*options, "--", ENDLESS)
        expect(code == 137, f"exit code {code}")
        return int(re.findall(r"Now allocated (\d+) Megabytes", out)[-1]), log
    alone, _ = megabytes("--memory", "64M")
    more, log = megabytes("--memory", "64M", "--swap", "64M")
    expect(52 <= more - alone <= 66, f"{alone} MB without, {more} MB with 64 MB of swap")
    expect(re.search(r"Total swap = 65536kB", log), log)
    swap = re.search(r"oom: swap: 64\.0 MiB in all, ([\d.]+) free; ([\d.]+) are in use and take ([\d.]+) of memory, compressed", log)
    expect(swap and float(swap[1]) < 2 and float(swap[2]) > 62 and float(swap[3]) < 16, log)


def nobody_to_kill():
    """Everybody protected: the machine ends with a panic and 125, and does not hang."""
    code, _, errors, log = run_logged("--memory", "48M", "--", "bash", "-c", f"echo -1000 > /proc/self/oom_score_adj; exec {ENDLESS}")
    expect(code == 125 and "System is deadlocked on memory" in errors, f"{code}: {errors}")
    expect("Out of memory and no killable processes..." in log, log)
    expect("Kernel panic - not syncing: System is deadlocked on memory" in log and not killed(log), log)


def settings():
    """panic_on_oom, oom_kill_allocating_task, oom_dump_tasks."""
    sysctl = "/proc/sys/vm"
    code, _, errors, log = run_logged("--memory", "48M", "--", "bash", "-c", f"echo 1 > {sysctl}/panic_on_oom; {ENDLESS}")
    expect(code == 125 and "system-wide panic_on_oom is enabled" in errors and not killed(log), f"{code}: {errors}")
    script = f"cat {sysctl}/{{panic_on_oom,oom_kill_allocating_task,oom_dump_tasks}}; echo 0 > {sysctl}/oom_dump_tasks; {ENDLESS}"
    code, out, errors, log = run_logged("--memory", "48M", "--", "bash", "-c", script)
    expect(out.startswith("0\n0\n1\n") and killed(log) and "Tasks state" not in log, f"{out[:20]!r} {log[-300:]}")
    script = (f"echo 1 > {sysctl}/oom_kill_allocating_task; exec 3< <(exec $PYTHON -c \"$HOLD\" 50 2); read -u3 x;"
              f"{ENDLESS} > /dev/null; echo small $?; read -u3 y; echo big $y")
    code, out, errors, log = run_logged("--memory", "80M", "--", "bash", "-c", script)
    expect(out == "small 137\nbig lived\n", f"{code}: {out} {errors}")
    expect(re.search(r"Out of memory \(oom_kill_allocating_task\): Killed process \d+ \(endless_malloc\)", log), log[-500:])


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 17, 0x4206, 0x40


def ptrace(request, pid, data):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return libc.ptrace(request, pid, None, data) == 0


def hold_at_exit(pid):
    """The host's debugger interface keeps the process from going, killed or not, until we let go or end."""
    return ptrace(PTRACE_SEIZE, pid, PTRACE_O_TRACEEXIT)


def slow_victim():
    """A victim that does not die (a debugger on the host holds it): its memory is taken back, the others go on."""
    with tempfile.NamedTemporaryFile("r", suffix=".log") as log:
        script = "$PYTHON -c \"$HOLD\" 60 100 & sleep 0.1; read x; $PYTHON -c \"$HOLD\" 45 0; echo second $?; kill -9 $!"
        machine = subprocess.Popen([QUIRE, "run", "--memory", "96M", "--log", log.name, "--", "bash", "-c", script],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        said, big = Lines(machine), 0
        try:
            expect(said.next(PATIENCE) == "holds", "the first program did not start")
            big = max((p for p in descendants(machine.pid)), key=resident)
            if not hold_at_exit(big):
                print("    left out: this host lets nobody trace")
                return
            machine.stdin.write(b"go\n")
            expect(said.next(PATIENCE) == "holds", "the second program did not get its memory")
            expect(said.next(PATIENCE) == "lived" and said.next(PATIENCE) == "second 0", "the second program died")
            expect(os.path.exists(f"/proc/{big}"), "the victim was not held at all")
            ptrace(PTRACE_DETACH, big, None)
            machine.wait(PATIENCE)
        finally:
            machine.kill()
            if big:
                ptrace(PTRACE_DETACH, big, None)
            machine.communicate()
        text = log.read()
        expect([int(pid) for pid, _ in killed(text)] == [big], f"killed: {killed(text)}, not {big}")
        expect(re.search(rf"oom_reaper: reaped process {big} \(python3[^)]*\), now anon-rss:\d+kB, file-rss:\d+kB, shmem-rss:0kB", text),
               f"no word of the reaper: {text[-400:]}")


def resident(pid):
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1])
    except OSError:
        return 0


def stopped_victim():
    """A stopped process (SIGSTOP) is a victim like any other."""
    script = ("exec 3< <(exec $PYTHON -c \"$HOLD\" 60 100); first=$!; read -u3 x;"
              "kill -STOP $first; $PYTHON -c \"$HOLD\" 45 0; echo second $?; wait $first; echo first $?")
    code, out, errors, log = run_logged("--memory", "96M", "--", "bash", "-c", script)
    expect("second 0" in out and "first 137" in out and len(killed(log)) == 1, f"{code}: {out} {errors} {killed(log)}")


def storm():
    """Four at once, again and again: one victim for each program that asks without end, nobody else, and all memory comes back."""
    # The supervisor tidies up a moment after the shells heard of the last deaths.
    free = "for i in {1..60}; do sleep 0.5; x=($(grep MemFree /proc/meminfo)); [ ${x[1]} -gt $((36 << 10)) ] && break; done"
    script = (f"for w in 1 2 3 4; do (for i in 1 2 3 4 5 6; do {ENDLESS} > /dev/null 2>&1; echo code $?; done) & done; wait; {free};"
              "grep oom_kill /proc/vmstat; grep -e MemTotal -e MemFree /proc/meminfo")
    code, out, errors, log = run_logged("--memory", "48M", "--", "bash", "-c", script)
    expect(code == 0 and out.count("code 137") == 24, f"{code}: {out} {errors[-300:]}")
    expect(len(killed(log)) == 24 and {name for _, name in killed(log)} == {"endless_malloc"}, f"killed: {killed(log)}")
    free = int(re.search(r"MemFree: +(\d+)", out)[1])
    expect(free > 36 << 10, f"{free} kB are free at the end")


TESTS = [tutorial, remedy_is_right, protected_lives, score_adj_for_guests, further_by_the_swap, nobody_to_kill, settings, slow_victim,
         stopped_victim, storm]


if __name__ == "__main__":
    sys.exit(run_tests(TESTS))
