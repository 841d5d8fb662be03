# SPDX-License-Identifier: Apache-2.0
"""serve.py ADDRESS PORT [WORD...]: an echo server that prints each connection and what it received.

mptcp: an MPTCP listener; only: for IPv6 only; device=NAME: bound to a device; steer: a program of the
SO_REUSEPORT group gives this socket all of the port's connections.
"""
import ctypes
import os
import socket
import struct
import sys
import threading

TCP_FASTOPEN, IPPROTO_MPTCP, SO_ATTACH_REUSEPORT_CBPF = 23, 262, 51
host, port, words = sys.argv[1], int(sys.argv[2]), dict(w.partition("=")[::2] for w in sys.argv[3:])
n = 0


def say(line):
    os.write(1, (line + "\n").encode())  # one write, so that lines of threads don't mix


def listener():
    v6 = ":" in host
    ln = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP if "mptcp" in words else 0)
    ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "alone" not in words:  # another listener may try to join the group
        ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6:
        ln.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, "only" in words)
    if "device" in words:
        ln.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    ln.bind((host, port))
    ln.listen(128)
    if "mptcp" not in words:
        ln.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    if "steer" in words:  # returns the index of the group's last socket, this one
        program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, int(words["steer"] or 1)))
        ln.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("=H6xQ", 1, ctypes.addressof(program)))
    return ln


def echo(c, n):
    received = False
    with c:
        try:
            while data := c.recv(4096):
                received = True
                say(f"got {n} {data.decode(errors='replace')}")
                c.sendall(data)
        except OSError as e:
            say(f"failed {n} {e}")
    say(f"ended {n}" if received else f"empty {n}")


def accept(ln):
    global n
    conn, peer = ln.accept()
    n += 1
    say(f"accepted {n} {peer[0]}")
    conn.setblocking(True)
    threading.Thread(target=echo, args=(conn, n), daemon=True).start()


ln = listener()
say("listening")
while True:
    accept(ln)
