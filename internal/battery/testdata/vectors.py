# SPDX-License-Identifier: Apache-2.0
"""vectors.py CANARY TARGET [WORD...]: one attempt to reach TARGET with CANARY.

TARGET is 10.0.0.1:80 or [::1]:80. The words change how the socket is made,
handed on and connected. What the kernel said is the one line of output:
"ok" (the canary came back), "CALL: ERRNO", or "closed".
"""
import array
import ctypes
import errno
import os
import select
import socket
import struct
import sys
import time

TCP_FASTOPEN_CONNECT, MSG_FASTOPEN, IPPROTO_MPTCP = 30, 0x20000000, 262
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
LIMIT = 3.0
PROMPT = 1.0  # closed within 100 ms, and a loaded machine's share


class Failed(Exception):
    pass


def call(name, f, *args):
    try:
        return f(*args)
    except socket.timeout:
        raise Failed(name + ": timeout") from None
    except OSError as e:
        raise Failed(f"{name}: {errno.errorcode.get(e.errno, e)}") from None


def endpoint(text):
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return socket.AF_INET6 if ":" in host else socket.AF_INET, (host, int(port))


def enter(cgroup):
    with open(os.path.join(cgroup, "cgroup.procs"), "w") as f:
        f.write(str(os.getpid()))


def make(family, words):
    protocol = IPPROTO_MPTCP if "mptcp" in words else 0
    s = call("socket", socket.socket, family, socket.SOCK_STREAM, protocol)
    if "mark" in words:
        call("mark", s.setsockopt, socket.SOL_SOCKET, socket.SO_MARK, int(words["mark"], 0))
    if "device" in words:
        call("device", s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    if "source" in words:
        call("freebind", s.setsockopt, socket.SOL_IP, 15, 1)  # IP_FREEBIND
        call("bind", s.bind, (words["source"], 0))
    if "fastopen-connect" in words:
        call("option", s.setsockopt, socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    return s


def passed(family, words):
    """The socket is made by another process, in another cgroup."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        enter(words["pass"])
        s = make(family, words)
        theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
        os._exit(0)
    theirs.close()
    _, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    os.wait()
    if not control:
        raise Failed("nothing passed")
    fd = array.array("i")
    fd.frombytes(control[0][2])
    return socket.socket(fileno=fd[0])


def connect(s, at, words, canary):
    """Returns whether the canary is on its way already."""
    if "fastopen" in words:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(LIMIT), 0))
        call("connect", s.sendto, canary, MSG_FASTOPEN, at)
        return True
    if "nonblock" not in words:
        s.settimeout(LIMIT)
        call("connect", s.connect, at)
        return False
    s.setblocking(False)
    code = s.connect_ex(at)
    if code == errno.EINPROGRESS:
        if not select.select([], [s], [], LIMIT)[1]:
            raise Failed("connect: timeout")
        code = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise Failed("connect: " + errno.errorcode[code])
    return False


def exchange(s, canary, sent):
    s.settimeout(LIMIT)
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


def tcp(family, at, words, canary):
    s = passed(family, words) if "pass" in words else make(family, words)
    if "enter" in words:  # the socket is older than the move
        enter(words["enter"])
    if "exec" in words:  # and now another program's
        os.set_inheritable(s.fileno(), True)
        enter(words["exec"])
        os.execv(sys.executable, [sys.executable, *sys.argv[:3], f"fd={s.detach()}"])
    return exchange(s, canary, connect(s, at, words, canary))


def udp(family, at, words, canary):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.settimeout(LIMIT)
    if "connected" not in words:
        call("sendto", s.sendto, canary, at)
    else:
        call("connect", s.connect, at)
        call("send", s.send, canary)
    call("recv", s.recv, 4096)
    return "ok"


def raw(at, words):
    """A SYN of our own making with a payload, past every socket hook."""
    source, port = words["raw"], 40000 + os.getpid() % 20000
    s = call("socket", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    s.settimeout(LIMIT)
    call("bind", s.bind, (source, 0))
    head = struct.pack("!HHIIBBHHH", port, at[1], 1, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(at[0]) + struct.pack("!BBH", 0, 6, len(head))
    total = sum(struct.unpack(f"!{(len(pseudo) + len(head)) // 2}H", pseudo + head))
    total = (total >> 16) + (total & 0xFFFF)
    head = head[:16] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[18:]
    call("send", s.sendto, head, (at[0], 0))
    while True:
        packet = call("recv", s.recv, 4096)
        segment = packet[(packet[0] & 15) * 4:]
        if struct.unpack("!HH", segment[:4]) == (at[1], port):
            return "reset" if segment[13] & 4 else "accepted"


def main():
    canary, (family, at) = sys.argv[1].encode(), endpoint(sys.argv[2])
    words = dict(w.partition("=")[::2] for w in sys.argv[3:])
    if "userns" in words:
        flags = CLONE_NEWUSER | (CLONE_NEWNET if "netns" in words else 0)
        if ctypes.CDLL(None, use_errno=True).unshare(flags):
            raise Failed("unshare: " + errno.errorcode[ctypes.get_errno()])
    if "udp" in words:
        return udp(family, at, words, canary)
    if "raw" in words:
        return raw(at, words)
    if "fd" in words:
        s = socket.socket(fileno=int(words["fd"]))
        return exchange(s, canary, connect(s, at, words, canary))
    return tcp(family, at, words, canary)


try:
    print(main())
except Failed as e:
    print(e)
