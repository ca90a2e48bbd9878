#!/usr/bin/env python3
"""System calls through the table of native calls: prints the same natively and in a machine.

native_table_guest.py QUIRE   runs itself natively and as a guest, and compares
native_table_guest.py         is the guest
"""
import array
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time


def messages():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    bufs = [bytes([i]) * (i * 37 + 1) for i in range(30)]
    sent = a.sendmsg(bufs)
    into = [bytearray(i * 37 + 1) for i in range(30)]
    got = b.recvmsg_into(into)
    r, w = os.pipe()
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [w]))])
    _, control, _, _ = b.recvmsg(10, 100)
    os.write(struct.unpack("i", control[0][2][:4])[0], b"hi")
    return sent, got[0], [bytes(x) for x in into] == bufs, os.read(r, 10)


def tcp():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    client = socket.create_connection(listener.getsockname())
    server, address = listener.accept()
    data = os.urandom(8 << 20)
    thread = threading.Thread(target=lambda: (client.sendall(data), client.close()))
    thread.start()
    got = bytearray()
    while piece := server.recv(1 << 20):
        got += piece
    thread.join()
    return bytes(got) == data, address[0], server.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)


def waiting():
    r, w = os.pipe()
    p = select.poll()
    p.register(r, select.POLLIN)
    p.register(w, select.POLLOUT)
    e = select.epoll()
    e.register(r, select.EPOLLIN)
    out = [p.poll(0)[0][1]]
    start = time.time()
    out += [e.poll(0.05), select.select([r], [], [], 0.05)]
    passed = time.time() - start
    os.write(w, b"1")
    return out, len(e.poll(1)), len(select.select([r], [w], [], 1)[0]), passed > 0.09


def signals():
    got = []
    signal.signal(signal.SIGALRM, lambda s, f: got.append(s))
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    start = time.time()
    while time.time() - start < 0.3 or (len(got) < 3 and time.time() - start < 20):
        time.sleep(0.3)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.kill(os.getpid(), signal.SIGUSR1)
    return len(got) >= 3, time.time() - start > 0.29, signal.sigwait([signal.SIGUSR1])


def files():
    f = tempfile.TemporaryFile()
    data = os.urandom(5_000_000)
    f.write(data)
    f.flush()
    f.seek(0)
    whole = f.read() == data
    os.pwritev(f.fileno(), [b"a" * 10, b"b" * 5000] * 12, 100)
    into = [bytearray(777) for _ in range(50)]
    n = os.preadv(f.fileno(), into, 100)
    expected = (b"a" * 10 + b"b" * 5000) * 12 + data[100 + 60120:]
    fcntl.lockf(f, fcntl.LOCK_EX)
    fcntl.flock(f, fcntl.LOCK_SH)
    g = tempfile.TemporaryFile()
    return (whole, n, b"".join(into) == expected[:n], os.sendfile(g.fileno(), f.fileno(), 10, 100000),
            os.copy_file_range(f.fileno(), g.fileno(), 1000, 5, 5))


def terminals():
    m, s = os.openpty()
    fcntl.ioctl(m, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 44, 0, 0))
    size = struct.unpack("HHHH", fcntl.ioctl(s, termios.TIOCGWINSZ, b"\0" * 8))
    r, w = os.pipe()
    os.write(w, b"12345")
    ready = struct.unpack("i", fcntl.ioctl(r, termios.FIONREAD, b"\0" * 4))[0]
    return size, len(termios.tcgetattr(s)), ready, os.ttyname(s).startswith("/dev/pts")


def children():
    p = subprocess.run(["sh", "-c", "echo hi; exit 3"], capture_output=True)
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    return p.stdout, p.returncode, os.waitpid(pid, 0)[1], resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


def identity():
    return (os.getgroups(), os.sched_getaffinity(0), os.uname().sysname, os.getcwd(), len(os.getrandom(5000)),
            len(os.listdir("/usr/bin")))


def resident_grows():
    with open("/proc/self/statm") as f:
        before = int(f.read().split()[1])
        block = bytearray(50 << 20)
        for i in range(0, len(block), 4096):
            block[i] = 1
        f.seek(0)
        return int(f.read().split()[1]) - before > 12000


def own_memory():
    buf = ctypes.create_string_buffer(b"secret-bytes")
    at = ctypes.addressof(buf)
    with open("/proc/self/mem", "r+b", 0) as f:
        f.seek(at)
        read = f.read(6)
        f.seek(at)
        f.write(b"SECRET")
    with open("/proc/self/pagemap", "rb") as f:
        f.seek(at // 4096 * 8)
        present = struct.unpack("Q", f.read(8))[0] >> 63
    return read, buf.value, present


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def program():
    return (os.readlink("/proc/self/exe"), os.path.realpath("/proc/%d/exe" % os.getpid()),
            os.stat("/proc/self/exe").st_size, open("/proc/self/cmdline").read())


def guest():
    for check in (messages, tcp, waiting, signals, files, terminals, children, identity, resident_grows, own_memory,
                  descriptors, program):
        try:
            print(check.__name__, check())
        except Exception as e:
            print(check.__name__, "failed:", type(e).__name__, e)


def compare(quire):
    me = [sys.executable, os.path.abspath(__file__)]
    native = subprocess.run(me, capture_output=True, text=True, timeout=120)
    hosted = subprocess.run([quire, "run", "--"] + me, capture_output=True, text=True, timeout=120)
    bad = "failed:" in native.stdout or native.stdout != hosted.stdout or hosted.returncode != native.returncode
    if bad:
        for a, b in zip(native.stdout.splitlines(), hosted.stdout.splitlines() + [""] * 99):
            if a != b:
                print("native:", a[:2000])
                print("hosted:", b[:2000])
        print(hosted.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(compare(sys.argv[1]) if len(sys.argv) > 1 else guest())
