#!/usr/bin/env python3
"""Makes the traces beside it: which pages a program uses, one after another.  bench/reclaim_bench.c reads them.

    ./make_traces.py            the five that are drawn from a seed: the same bytes on every run
    ./make_traces.py NAME -- COMMAND...
                                one of a real program: every page that its loads, stores and fetches touch, as valgrind's lackey sees it,
                                without those to the 16 pages used last (a TLB would hide them); at most LENGTH

Form: "QTRACE1\\n", a line that says what it is, then for each use the difference to the page before it, zigzag and in groups of 7 bits,
lowest first.  Pages are numbered by first use in real programs' traces.
"""
import bisect
import collections
import itertools
import os
import random
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LENGTH = 60000


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def write(name, what, pages):
    last, data = 0, bytearray(f"QTRACE1\n{what}\n".encode("ascii"))
    for page in pages:
        d = page - last
        data += varint(d << 1 if d >= 0 else (-d << 1) - 1)
        last = page
    with open(os.path.join(HERE, name + ".trace"), "wb") as f:
        f.write(data)
    print(f"{name}: {len(pages)} uses of {len(set(pages))} pages, {len(data)} bytes")


def weighted(rnd, n, exponent):
    """Draws 0..n-1, i with weight 1 / (i + 1) ** exponent."""
    sums = list(itertools.accumulate((i + 1) ** -exponent for i in range(n)))
    return lambda: bisect.bisect(sums, rnd.random() * sums[-1])


def zipf(rnd):
    draw, order = weighted(rnd, 4000, 0.9), list(range(4000))
    rnd.shuffle(order)
    return [order[draw()] for _ in range(LENGTH)]


def loop(rnd):
    """A loop over a little more than fits, and a few pages that are used all the time."""
    return [rnd.randrange(2000, 2100) if i % 4 == 0 else i * 3 // 4 % 1500 for i in range(LENGTH)]


def scan(rnd):
    """A working set, and a file that is read through once beside it."""
    draw, out, at = weighted(rnd, 1200, 0.6), [], 2000
    for i in range(LENGTH):
        if i % 5 == 0:
            out.append(at)
            at += 1
        else:
            out.append(draw())
    return out


def phases(rnd):
    """Every 6000 uses the program turns to other pages, of which a quarter are old friends."""
    out = []
    for phase in range(LENGTH // 6000):
        base, draw = phase * 750, weighted(rnd, 1000, 0.5)
        out += [base + draw() for _ in range(6000)]
    return out


def recency(rnd):
    """The n-th page by last use is used with weight 1 / n ** 1.2: what LRU is made for."""
    draw, stack, out = weighted(rnd, 3000, 1.2), list(range(3000)), []
    for _ in range(LENGTH):
        out.append(stack.pop(draw()))
        stack.insert(0, out[-1])
    return out


def real(name, command):
    """Uses of a real program."""
    recent, numbers, out = collections.OrderedDict(), {}, []
    process = subprocess.Popen(["valgrind", "--tool=lackey", "--trace-mem=yes", "--log-fd=9", "--trace-children=no", *command],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, pass_fds=[9])
    os.close(9)
    with os.fdopen(3, "r", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line[:1] not in "I " or line[1:2] not in " LSM":
                continue
            page = line[3:].split(",")[0][:-3]
            if page in recent:
                recent.move_to_end(page)
                continue
            recent[page] = True
            if len(recent) > 16:
                recent.popitem(last=False)
            out.append(numbers.setdefault(page, len(numbers)))
            if len(out) == LENGTH:
                break
    process.kill()
    process.wait()
    write(name, f"{os.path.basename(command[0])}, recorded with valgrind's lackey by make_traces.py", out)


def main():
    if sys.argv[1:]:
        reader, writer = os.pipe()
        os.dup2(writer, 9)
        os.close(writer)
        if reader != 3:
            os.dup2(reader, 3)
            os.close(reader)
        real(sys.argv[1], sys.argv[3:])
        return
    for seed, maker in enumerate((zipf, loop, scan, phases, recency)):
        what = (maker.__doc__ or "4000 pages by Zipf's law, exponent 0.9").split("\n")[0]
        write(maker.__name__, what, maker(random.Random(seed + 1)))


if __name__ == "__main__":
    main()
