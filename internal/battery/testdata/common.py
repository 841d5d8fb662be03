# SPDX-License-Identifier: Apache-2.0
"""What all attempts share."""
import errno
import socket
import struct

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
    """The family and the address as Python wants it; [fe80::1%eth0]:80 has a scope."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if ":" not in host:
        return socket.AF_INET, (host, int(port))
    host, _, scope = host.partition("%")
    return socket.AF_INET6, (host, int(port), 0, socket.if_nametoindex(scope) if scope else 0)


def sockaddr(family, at):
    """The address as the kernel wants it."""
    if family == socket.AF_INET:
        return struct.pack("=H", family) + struct.pack("!H", at[1]) + socket.inet_aton(at[0]) + bytes(8)
    return (struct.pack("=H", family) + struct.pack("!HI", at[1], at[2]) + socket.inet_pton(family, at[0]) +
            struct.pack("=I", at[3]))
