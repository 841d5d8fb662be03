# SPDX-License-Identifier: Apache-2.0
"""TCP sockets: how they are made, passed from one process to another, connected and used."""
import array
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
import time

import ring
from common import LIMIT, PROMPT, Failed, call, endpoint

TCP_FASTOPEN_CONNECT, MSG_FASTOPEN, IPPROTO_MPTCP, IPPROTO_SMC = 30, 0x20000000, 262, 256
TCP_REPAIR, TCP_ULP, TCP_FASTOPEN_NO_COOKIE, IP_FREEBIND, IP_TRANSPARENT = 19, 31, 34, 15, 19
IP_UNICAST_IF, IPV6_UNICAST_IF, IPV6_FLOWINFO_SEND, IPV6_ADDRFORM = 50, 76, 33, 1
PIDFD_OPEN, PIDFD_GETFD = 434, 438


def enter(cgroup):
    os.makedirs(cgroup, exist_ok=True)
    try:
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))
    except OSError as e:
        raise Failed("enter: " + errno.errorcode[e.errno]) from None


def bind_device(s, name):
    call("device", s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")


def make(family, at, words):
    if "ring-socket" in words:
        return ring.make(family)
    kind, protocol = socket.SOCK_STREAM, IPPROTO_MPTCP if "mptcp" in words else IPPROTO_SMC if "smc" in words else 0
    if "protocol" in words:  # SCTP 132, DCCP 33
        kind, protocol = int(words.get("kind", kind)), int(words["protocol"])
    s = call("socket", socket.socket, socket.AF_INET6 if "addrform" in words else family, kind, protocol)
    options(s, family, at, words)
    return s


def options(s, family, at, words):
    v6 = family == socket.AF_INET6
    if "mark" in words:
        call("mark", s.setsockopt, socket.SOL_SOCKET, socket.SO_MARK, int(words["mark"], 0))
    if "device" in words:
        bind_device(s, words["device"])
    if "unicast-if" in words:
        index = struct.pack("!I", socket.if_nametoindex(words["unicast-if"]))
        level, option = (socket.IPPROTO_IPV6, IPV6_UNICAST_IF) if v6 else (socket.SOL_IP, IP_UNICAST_IF)
        call("unicast-if", s.setsockopt, level, option, index)
    if "srr" in words:  # loose source route through another host; the kernel fills in the last hop
        call("srr", s.setsockopt, socket.SOL_IP, socket.IP_OPTIONS, bytes([131, 7, 4]) + socket.inet_aton(words["srr"]) + b"\0")
    if "rthdr" in words:  # a segment routing header with one hop before the last
        stop = socket.inet_pton(socket.AF_INET6, words["rthdr"])
        header = struct.pack("!BBBBBBH", 0, 4, 4, 1, 1, 0, 0) + bytes(16) + stop
        call("rthdr", s.setsockopt, socket.IPPROTO_IPV6, socket.IPV6_RTHDR, header)
    if "flow" in words:
        call("flow", s.setsockopt, socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
    if "ulp" in words:
        try:
            s.setsockopt(socket.IPPROTO_TCP, TCP_ULP, words["ulp"].encode())
        except OSError:
            pass  # the kernel lacks it, or allows it only after connect()
    if "no-cookie" in words:
        call("no-cookie", s.setsockopt, socket.IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    if "dontroute" in words:
        call("dontroute", s.setsockopt, socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
    if "transparent" in words:
        call("transparent", s.setsockopt, socket.SOL_IP, IP_TRANSPARENT, 1)
    if "repair" in words:
        call("repair", s.setsockopt, socket.IPPROTO_TCP, TCP_REPAIR, 1)
    if "source" in words:
        host, _, port = words["source"].partition("#")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "reuseport" in words:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        call("freebind", s.setsockopt, socket.SOL_IP, IP_FREEBIND, 1)
        call("bind", s.bind, (host, int(port or 0)))
    if "source6" in words:
        call("bind", s.bind, (words["source6"], 0))
    if "fastopen-connect" in words:
        call("option", s.setsockopt, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)


def passed(family, at, words, cgroup, canary):
    """The socket is made by a process in another cgroup and passed here by SCM_RIGHTS."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        said = b"x"
        try:
            enter(cgroup)
            s = make(family, at, words)
            if "pass-connected" in words:
                connect(s, family, at, words, canary)
            theirs.sendmsg([said], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
        except Failed as e:
            theirs.send(str(e).encode())
        os._exit(0)
    theirs.close()
    said, control, _, _ = ours.recvmsg(256, socket.CMSG_SPACE(4))
    os.wait()
    if not control:
        raise Failed("not passed: " + said.decode())
    fd = array.array("i")
    fd.frombytes(control[0][2])
    return socket.socket(fileno=fd[0])


def stolen(family, at, words):
    """The socket belongs to a process in another cgroup and is taken by pidfd_getfd."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        enter(words["steal"])
        s = make(family, at, words)
        os.write(w, str(s.fileno()).encode())
        signal.pause()
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(PIDFD_GETFD, libc.syscall(PIDFD_OPEN, pid, 0), int(os.read(r, 16)), 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if fd < 0:
        raise Failed("pidfd_getfd: " + errno.errorcode[ctypes.get_errno()])
    return socket.socket(fileno=fd)


def limit_blocking(s):
    """Time limits for a socket that stays a blocking one."""
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        s.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(LIMIT), 0))


def fetch_cookie(text):
    """A connection with MSG_FASTOPEN makes the kernel remember the address's cookie."""
    family, at = endpoint(text)
    with socket.socket(family, socket.SOCK_STREAM) as s:
        limit_blocking(s)
        call("cookie", s.sendto, b"cookie", MSG_FASTOPEN, at)
        call("cookie", s.recv, 64)


def connect(s, family, at, words, canary):
    """Returns whether the canary has been sent."""
    if "cookie" in words:
        fetch_cookie(words["cookie"])
    if "ring" in words:
        return ring.connect(s, family, at, words["ring"], canary if "fastopen" in words else None)
    if "fastopen" in words:
        limit_blocking(s)
        call("connect", s.sendto, canary, MSG_FASTOPEN, at)
        return True
    if "nonblock" in words or "device-between" in words:
        return connect_later(s, at, words)
    s.settimeout(float(words.get("limit", LIMIT)))
    call("connect", s.connect, at)
    if "repair" in words:  # established without a handshake; leaves repair mode
        call("repair", s.setsockopt, socket.IPPROTO_TCP, TCP_REPAIR, 0)
    return False


def connect_later(s, at, words):
    s.setblocking(False)
    code = s.connect_ex(at)
    if "device-between" in words:  # after the connect hook, before the end of the handshake
        bind_device(s, words["device-between"])
    if code == errno.EINPROGRESS:
        if not select.select([], [s], [], float(words.get("limit", LIMIT)))[1]:
            raise Failed("connect: timeout")
        code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise Failed("connect: " + errno.errorcode[code])
    return False


def exchange(s, canary, sent, limit=LIMIT):
    s.settimeout(limit)
    begin = time.monotonic()
    if not sent:
        call("send", s.sendall, canary)
    answer = b""
    while canary not in answer:
        try:
            piece = call("recv", s.recv, 4096)
        except Failed:
            if time.monotonic() - begin > PROMPT:
                return "closed late"
            raise
        if not piece:
            return "closed" if time.monotonic() - begin < PROMPT else "closed late"
        answer += piece
    return "ok"


def hold(s, canary, path):
    """Makes path.held, waits for the file path, then sends until the connection is cut or 2 LIMIT have passed."""
    open(path + ".held", "w").close()
    end = time.monotonic() + 20
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)
    end = time.monotonic() + 2 * LIMIT
    while time.monotonic() < end:
        said = exchange(s, canary, False)
        if said != "ok":
            return "cut"
        time.sleep(0.05)
    return "still connected"


def talk(s, at, words, canary):
    family = s.family
    if "address" in words:  # added just before connect()
        os.system(f"ip addr add {words['address']} dev lo")
    if "twice" in words:  # connected to another address first, then disconnected
        first = endpoint(words["twice"])[1]
        s.settimeout(LIMIT)
        call("first", s.connect, first)
        call("first", s.sendall, b"first")
        call("first", s.recv, 64)
        if "addrform" in words:  # from here on an IPv4 socket
            call("addrform", s.setsockopt, socket.IPPROTO_IPV6, IPV6_ADDRFORM, socket.AF_INET)
            s = socket.socket(fileno=s.detach())
        nothing = struct.pack("=H", socket.AF_UNSPEC) + bytes(26)
        if ctypes.CDLL(None, use_errno=True).connect(s.fileno(), nothing, len(nothing)):
            raise Failed("disconnect: " + errno.errorcode[ctypes.get_errno()])
    sent = "pass-connected" in words and "fastopen" in words
    if "pass-connected" not in words:
        sent = connect(s, family, at, words, canary)
    if "device-late" in words:
        bind_device(s, words["device-late"])
    said = exchange(s, canary, sent, float(words.get("limit", LIMIT)))
    if "hold" in words and said == "ok":
        return hold(s, canary, words["hold"])
    for _ in range(int(words.get("times", 1)) - 1):
        if said == "ok":
            said = exchange(s, canary, False)
    return said


def again(family, at, words, canary):
    """Tries for a second, until it is answered."""
    end = time.monotonic() + 1
    while True:
        try:
            s = make(family, at, words)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            said = talk(s, at, words, canary)
        except Failed as e:
            said = str(e)
        s.close()
        if said == "ok" or time.monotonic() > end:
            return said
        time.sleep(0.02)


def call_out(family, at, words, canary):
    if "patient" in words:
        return again(family, at, words, canary)
    if "pass" in words:
        s = passed(family, at, words, words["pass"], canary)
    elif "pass-connected" in words:
        s = passed(family, at, words, words["pass-connected"], canary)
    elif "steal" in words:
        s = stolen(family, at, words)
    else:
        s = make(family, at, words)
    if "enter" in words:  # the process moves after the socket was made
        enter(words["enter"])
    if "back" in words:
        enter(words["back"])
    if "exec" in words:  # another program inherits the socket
        os.set_inheritable(s.fileno(), True)
        enter(words["exec"])
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.py")
        target = f"[{at[0]}]:{at[1]}" if family == socket.AF_INET6 else f"{at[0]}:{at[1]}"
        os.execv(sys.executable, [sys.executable, path, canary.decode(), target, f"fd={s.detach()}"])
    return talk(s, at, words, canary)
