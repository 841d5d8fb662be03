# SPDX-License-Identifier: Apache-2.0
"""serve.py ADDRESS PORT [WORD...]: echo; each connection and what it brought is a line.

mptcp: an MPTCP listener; device=NAME: bound to a device; steer: all of the
port's connections to this socket, by a program of the SO_REUSEPORT group;
flicker=MS: listens that long, lets go, and begins anew, for ever.
"""
import ctypes
import os
import select
import socket
import struct
import sys
import threading
import time

TCP_FASTOPEN, IPPROTO_MPTCP, SO_ATTACH_REUSEPORT_CBPF = 23, 262, 51
host, port, words = sys.argv[1], int(sys.argv[2]), dict(w.partition("=")[::2] for w in sys.argv[3:])
n = 0


def say(line):
    os.write(1, (line + "\n").encode())  # whole, whoever else is writing


def listener():
    v6 = ":" in host
    ln = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP if "mptcp" in words else 0)
    ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "alone" not in words:  # an impostor may try to stand beside
        ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6:
        ln.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if "device" in words:
        ln.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    ln.bind((host, port))
    ln.listen(128)
    if "mptcp" not in words:
        ln.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    if "steer" in words:  # return the group's last socket, which is this one
        program = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, int(words["steer"] or 1)))
        ln.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("=H6xQ", 1, ctypes.addressof(program)))
    return ln


def echo(c, n):
    heard = False
    with c:
        try:
            while data := c.recv(4096):
                heard = True
                say(f"got {n} {data.decode(errors='replace')}")
                c.sendall(data)
        except OSError as e:
            say(f"failed {n} {e}")
    say(f"ended {n}" if heard else f"empty {n}")


def accept(ln):
    global n
    conn, peer = ln.accept()
    n += 1
    say(f"accepted {n} {peer[0]}")
    conn.setblocking(True)
    threading.Thread(target=echo, args=(conn, n), daemon=True).start()


def flicker(seconds):
    while True:
        with listener() as ln:
            say("listening")
            if select.select([ln], [], [], seconds)[0]:
                accept(ln)
        time.sleep(seconds / 10)


if "flicker" in words:
    flicker(int(words["flicker"]) / 1000)
ln = listener()
say("listening")
while True:
    accept(ln)
