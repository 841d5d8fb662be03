# SPDX-License-Identifier: Apache-2.0
"""takeover.py serve PORT: answers each connection on 127.0.0.1 with db.
takeover.py squat PORT: has the port bound beside it. After SIGUSR1 it listens as soon as nobody else does.
takeover.py shared PORT: serves with two listeners that share the port.
takeover.py call ADDRESS PORT: calls without a pause, and prints each answer, or why there was none.
"""
import errno
import os
import signal
import socket
import sys
import threading
import time


def say(line):
    os.write(1, (line + "\n").encode())  # one write, so that lines of threads don't mix


def bound(port, *options):
    s = socket.socket()
    for option in options + (socket.SO_REUSEADDR,):
        s.setsockopt(socket.SOL_SOCKET, option, 1)
    s.bind(("127.0.0.1", port))
    return s


def serve(ln, answer):
    while True:
        conn, _ = ln.accept()
        say("accepted")
        conn.sendall(answer)
        conn.close()


def squat(port):
    ln = bound(port)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    say("bound")
    signal.sigwait([signal.SIGUSR1])
    while True:
        try:
            ln.listen()
            break
        except OSError:
            time.sleep(0.0002)
    say("listening")
    serve(ln, b"stolen")


def call(host, port):
    while True:
        try:
            with socket.create_connection((host, port), 5) as s:
                say(s.recv(100).decode() or "nothing")
        except OSError as e:
            say(errno.errorcode.get(e.errno, str(e)))


what, port = sys.argv[1], int(sys.argv[-1])
if what == "squat":
    squat(port)
elif what == "call":
    for _ in range(4):
        threading.Thread(target=call, args=(sys.argv[2], port)).start()
else:
    listeners = [bound(port, socket.SO_REUSEPORT) for _ in range(2)] if what == "shared" else [bound(port)]
    for ln in listeners:
        ln.listen(128)
        threading.Thread(target=serve, args=(ln, b"db")).start()
    say("serving")
