# SPDX-License-Identifier: Apache-2.0
"""UDP and ICMP, sent in every way that the kernel offers: udp=FORM."""
import ctypes
import errno
import os
import socket
import struct

from common import Failed, call, sockaddr

UDP_CORK, UDP_SEGMENT, IPPROTO_UDPLITE = 1, 103, 136
WAIT = 0.3  # for an answer, which must not come


class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


class mmsghdr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32), ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
                ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int), ("len", ctypes.c_uint)]


def by_libc(name, code):
    if code < 0:
        raise Failed(f"{name}: {errno.errorcode[ctypes.get_errno()]}")


def sendmmsg(s, family, at, canary):
    libc = ctypes.CDLL(None, use_errno=True)
    name = ctypes.create_string_buffer(sockaddr(family, at))
    data = ctypes.create_string_buffer(canary, len(canary))
    iov = iovec(ctypes.addressof(data), len(canary))
    size = 16 if family == socket.AF_INET else 28
    head = mmsghdr(ctypes.addressof(name), size, ctypes.addressof(ctypes.pointer(iov).contents), 1, None, 0, 0, 0)
    by_libc("sendmmsg", libc.sendmmsg(s.fileno(), ctypes.byref(head), 1, 0))


def unspec(s, family, at, canary):
    """An IPv4 socket takes an AF_UNSPEC address for an IPv4 one."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = b"\0\0" + sockaddr(family, at)[2:]
    by_libc("sendto", libc.sendto(s.fileno(), canary, len(canary), 0, name, len(name)))


def pktinfo(s, family, at, canary):
    """IP_PKTINFO names the outgoing device."""
    index = socket.if_nametoindex("eth0")
    if family == socket.AF_INET:
        control = [(socket.SOL_IP, 8, struct.pack("=i4s4s", index, bytes(4), bytes(4)))]  # IP_PKTINFO
    else:
        control = [(socket.IPPROTO_IPV6, 50, bytes(16) + struct.pack("=i", index))]  # IPV6_PKTINFO
    call("sendmsg", s.sendmsg, [canary], control, 0, at)


def cork(s, family, at, canary):
    call("cork", s.setsockopt, socket.IPPROTO_UDP, UDP_CORK, 1)
    call("sendto", s.sendto, canary, at)
    call("cork", s.setsockopt, socket.IPPROTO_UDP, UDP_CORK, 0)


def gso(s, family, at, canary):
    call("gso", s.setsockopt, socket.IPPROTO_UDP, UDP_SEGMENT, 8)
    call("sendto", s.sendto, canary * 4, at)


def connected(s, family, at, canary):
    call("connect", s.connect, at)
    call("send", s.send, canary)


def connect_only(s, family, at, canary):
    """As getaddrinfo does to sort addresses."""
    call("connect", s.connect, at)
    raise Failed("connected")


def reconnected(s, family, at, canary):
    """Connected to another address, then a message with its own address."""
    call("connect", s.connect, ("::1" if family == socket.AF_INET6 else "127.0.0.1", 9))
    call("sendto", s.sendto, canary, at)


def plain(s, family, at, canary):
    call("sendto", s.sendto, canary, at)


def four_on_six(s, family, at, canary):
    """An IPv6 socket and an AF_INET address."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = sockaddr(socket.AF_INET, at)
    by_libc("sendto", libc.sendto(s.fileno(), canary, len(canary), 0, name, len(name)))


def raw(family, at, canary):
    s = call("socket", socket.socket, family, socket.SOCK_RAW, socket.IPPROTO_UDP)
    s.settimeout(WAIT)
    packet = struct.pack("!HHHH", 40000 + os.getpid() % 20000, at[1], 8 + len(canary), 0) + canary
    call("sendto", s.sendto, packet, (at[0], 0))
    raise Failed("sent")


FORMS = {"": plain, "connected": connected, "connect-only": connect_only, "sendmmsg": sendmmsg, "unspec": unspec, "cork": cork,
         "gso": gso, "pktinfo": pktinfo, "reconnected": reconnected, "lite": plain, "4on6": four_on_six}


def send(family, at, words, canary):
    form = words["udp"]
    if form == "raw":
        return raw(family, at, canary)
    protocol = IPPROTO_UDPLITE if form == "lite" else 0
    s = call("socket", socket.socket, socket.AF_INET6 if form == "4on6" else family, socket.SOCK_DGRAM, protocol)
    if "mark" in words:
        call("mark", s.setsockopt, socket.SOL_SOCKET, socket.SO_MARK, int(words["mark"], 0))
    if "device" in words:
        call("device", s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    s.settimeout(WAIT)
    FORMS[form](s, family, at, canary)
    call("recv", s.recv, 4096)
    return "ok"


def icmp(family, at, words, canary):
    """An echo request with the canary in it."""
    v6 = family == socket.AF_INET6
    s = call("socket", socket.socket, family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP)
    if "device" in words:
        call("device", s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    s.settimeout(WAIT)
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, os.getpid() & 0xFFFF, 1)
    data = canary + bytes(len(canary) % 2)
    total = sum(struct.unpack(f"!{(len(head) + len(data)) // 2}H", head + data))
    total = (total >> 16) + (total & 0xFFFF)
    packet = head if v6 else head[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[4:]
    call("sendto", s.sendto, packet + data, (at[0], 0))
    raise Failed("sent")
