# SPDX-License-Identifier: Apache-2.0
"""io_uring by system calls: socket, connect and sendmsg, done in the caller, in a
worker thread ("async") or in the polling thread ("sqpoll")."""
import ctypes
import errno
import mmap
import select
import socket
import struct
import time

from common import LIMIT, Failed, sockaddr

SETUP, ENTER = 425, 426
OP_SENDMSG, OP_CONNECT, OP_SOCKET = 9, 16, 45
SETUP_SQPOLL, ENTER_GETEVENTS, ENTER_SQ_WAKEUP, SQE_ASYNC = 2, 1, 2, 16
MSG_FASTOPEN, SQES = 0x20000000, 0x10000000
libc = ctypes.CDLL(None, use_errno=True)


class Ring:
    def __init__(self, how):
        params = bytearray(120)
        struct.pack_into("=III", params, 8, SETUP_SQPOLL if how == "sqpoll" else 0, 0, 2000)
        self.how, self.fd = how, libc.syscall(SETUP, 4, (ctypes.c_char * 120).from_buffer(params))
        if self.fd < 0:
            raise Failed("io_uring_setup: " + errno.errorcode[ctypes.get_errno()])
        sq, cq = struct.unpack_from("=7I", params, 40), struct.unpack_from("=6I", params, 80)
        cq_entries, = struct.unpack_from("=I", params, 4)
        self.map = mmap.mmap(self.fd, cq[5] + 16 * cq_entries + 4096, offset=0)
        self.sqes = mmap.mmap(self.fd, 4096, offset=SQES)
        self.sq_tail, self.sq_array, self.cq_head, self.cqes, self.cq_tail = sq[1], sq[6], cq[0], cq[5], cq[1]

    def do(self, op, fd, off, addr, length, flags=0):
        """Submits one request and returns its result, negative for an errno."""
        how = SQE_ASYNC if self.how == "async" else 0
        self.sqes[:64] = struct.pack("=BBHiQQIIQ24x", op, how, 0, fd, off, addr, length, flags, 1)
        head, = struct.unpack_from("=I", self.map, self.cq_head)
        tail, = struct.unpack_from("=I", self.map, self.sq_tail)
        struct.pack_into("=I", self.map, self.sq_array, 0)
        struct.pack_into("=I", self.map, self.sq_tail, tail + 1)
        if self.how == "sqpoll":
            libc.syscall(ENTER, self.fd, 1, 0, ENTER_SQ_WAKEUP, None, 0)
        else:
            libc.syscall(ENTER, self.fd, 1, 0, 0, None, 0)
        end = time.monotonic() + LIMIT
        while struct.unpack_from("=I", self.map, self.cq_tail)[0] == head:
            if time.monotonic() > end:
                raise Failed("connect: timeout")
            libc.syscall(ENTER, self.fd, 0, 0, ENTER_GETEVENTS, None, 0)
            time.sleep(0.001)
        struct.pack_into("=I", self.map, self.cq_head, head + 1)
        return struct.unpack_from("=Qi", self.map, self.cqes)[1] if head == 0 else self.later(head)

    def later(self, head):
        return struct.unpack_from("=Qi", self.map, self.cqes + 16 * head)[1]


def result(name, code):
    if code < 0:
        raise Failed(f"{name}: {errno.errorcode[-code]}")
    return code


def make(family):
    fd = result("socket", Ring("").do(OP_SOCKET, family, socket.SOCK_STREAM, 0, 0))
    return socket.socket(fileno=fd)


def connect(s, family, at, how, canary):
    """A canary is sent by sendmsg with MSG_FASTOPEN. Returns whether it has been sent."""
    to = ctypes.create_string_buffer(sockaddr(family, at))
    size = 16 if family == socket.AF_INET else 28
    ring = Ring(how)
    if canary is None:
        result("connect", ring.do(OP_CONNECT, s.fileno(), size, ctypes.addressof(to), 0))
        return False
    data = ctypes.create_string_buffer(canary, len(canary))
    iov = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(data), len(canary)))
    head = ctypes.create_string_buffer(struct.pack("=QI4xQQQQI4x", ctypes.addressof(to), size, ctypes.addressof(iov), 1, 0, 0, 0))
    code = ring.do(OP_SENDMSG, s.fileno(), 0, ctypes.addressof(head), 1, MSG_FASTOPEN)
    if code != -errno.EINPROGRESS:
        return result("connect", code) > 0
    if not select.select([], [s], [], LIMIT)[1]:  # without a cookie nothing is sent with the SYN
        raise Failed("connect: timeout")
    return result("connect", -s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) > 0
