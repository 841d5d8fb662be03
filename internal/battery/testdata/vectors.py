# SPDX-License-Identifier: Apache-2.0
"""One attempt to reach TARGET with CANARY: run(NUMBER, [CANARY, TARGET, WORD...]).

TARGET is 10.0.0.1:80 or [::1]:80. The words change who tries, how the socket
is made, passed on and connected, and what is sent. The result is one line: "ok"
(the canary came back), "CALL: ERRNO", or "closed".
"""
import ctypes
import errno
import os
import signal
import socket
import sys
import threading

import datagrams
import packets
import ports
import tcp
from common import Failed, call, endpoint

CLONE = {"userns": 0x10000000, "netns": 0x40000000, "cgroupns": 0x02000000}
ATTEMPT_LIMIT = 25  # seconds for one attempt


def become(words):
    """Who tries: a cgroup, a user, namespaces."""
    if "into" in words:
        tcp.enter(words["into"])
    if "uid" in words:
        os.setgroups([])
        os.setgid(int(words["uid"]))
        os.setuid(int(words["uid"]))
    for name, flag in CLONE.items():
        if name in words and ctypes.CDLL(None, use_errno=True).unshare(flag):
            raise Failed("unshare: " + errno.errorcode[ctypes.get_errno()])


def attempt(family, at, words, canary):
    for name, way in (("udp", datagrams.send), ("icmp", datagrams.icmp), ("raw", packets.raw), ("frame", packets.frame),
                      ("catch", packets.catch), ("inject", packets.inject), ("forge", packets.forge), ("say", ports.say), ("open", ports.read)):
        if name in words:
            return way(family, at, words, canary)
    return tcp.call_out(family, at, words, canary)


def in_thread(cgroup, f):
    """f() in a thread that is in a threaded cgroup below."""
    path = os.path.join(cgroup, "t")
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "cgroup.type"), "w") as kind:
        kind.write("threaded")
    said = []

    def body():
        try:
            with open(os.path.join(path, "cgroup.threads"), "w") as threads:
                threads.write(str(threading.get_native_id()))
            said.append(f())
        except Failed as e:
            said.append(str(e))
    t = threading.Thread(target=body)
    t.start()
    t.join()
    return said[0]


def say(args):
    canary, (family, at) = args[0].encode(), endpoint(args[1])
    words = dict(w.partition("=")[::2] for w in args[2:])
    try:
        if "fd" in words:  # a socket inherited over exec
            return tcp.talk(socket.socket(fileno=int(words["fd"])), at, words, canary)
        become(words)
        if "thread" in words:
            return in_thread(words["into"], lambda: attempt(family, at, words, canary))
        return attempt(family, at, words, canary)
    except Failed as e:
        return str(e)
    except OSError as e:
        return f"{type(e).__name__}: {errno.errorcode.get(e.errno, e)}"
    except Exception as e:
        return f"broken attempt: {type(e).__name__} {e}"


def on_alarm(*_):
    raise Failed("no end")


def run(number, args):
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(ATTEMPT_LIMIT)
    os.environ["ATTEMPT"] = str(number)
    os.write(1, f"{number} {say(args)}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    run(os.environ.get("ATTEMPT", "0"), sys.argv[1:])
