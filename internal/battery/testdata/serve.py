# SPDX-License-Identifier: Apache-2.0
"""serve.py ADDRESS PORT: echo; each connection and what it brought is a line.

SO_REUSEPORT is set, so that an impostor may try to stand beside it.
"""
import socket
import sys
import threading

host, port = sys.argv[1], int(sys.argv[2])
ln = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
ln.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if ln.family == socket.AF_INET6:
    ln.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
ln.bind((host, port))
ln.listen(128)
print("listening", flush=True)


def echo(c, n):
    with c:
        try:
            while data := c.recv(4096):
                print(f"got {n} {data.decode(errors='replace')}", flush=True)
                c.sendall(data)
        except OSError as e:
            print(f"failed {n} {e}", flush=True)


n = 0
while True:
    conn, peer = ln.accept()
    n += 1
    print(f"accepted {n} {peer[0]}", flush=True)
    threading.Thread(target=echo, args=(conn, n), daemon=True).start()
