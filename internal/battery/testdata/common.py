# SPDX-License-Identifier: Apache-2.0
"""Errors, addresses and time limits of attempts."""
import errno
import socket
import struct

LIMIT = 3.0
PROMPT = 1.0  # the daemon promises 100 ms; the rest is for a loaded machine


class Failed(Exception):
    pass


def call(name, f, *args):
    try:
        return f(*args)
    except socket.timeout:
        raise Failed(name + ": timeout") from None
    except OSError as e:
        if e.errno == errno.EINPROGRESS:  # of a blocking socket: SO_SNDTIMEO has passed, socket(7)
            raise Failed(name + ": timeout") from None
        raise Failed(f"{name}: {errno.errorcode.get(e.errno, e)}") from None


def endpoint(text):
    """The family and the address in Python's form; [fe80::1%eth0]:80 has a scope."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if ":" not in host:
        return socket.AF_INET, (host, int(port))
    host, _, scope = host.partition("%")
    return socket.AF_INET6, (host, int(port), 0, socket.if_nametoindex(scope) if scope else 0)


def sockaddr(family, at):
    """The address as a struct sockaddr."""
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H", at[1]) + socket.inet_aton(at[0]) + bytes(8)
    return (struct.pack("=H", family) + struct.pack("!HI", at[1], at[2]) + socket.inet_pton(family, at[0]) +
            struct.pack("=I", at[3]))
