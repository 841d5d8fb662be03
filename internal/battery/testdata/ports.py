# SPDX-License-Identifier: Apache-2.0
"""Clients of the daemon's own ports, and readers of its files."""
import errno
import os
import socket
import ssl
import struct
import time

from common import LIMIT, PROMPT, Failed, call


def connect_to(target):
    """The first bytes of a client that asks a proxy for target, by the proxy's protocol."""
    host, port = target.rsplit(":", 1) if target else ("127.0.0.1", "1")
    return {
        "canary": None,
        "nothing": b"",
        "garbage": bytes(range(256)) * 64,
        "http": f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(),
        "get": f"GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(),
        "socks4": struct.pack("!BBH", 4, 1, int(port)) + socket.inet_aton(host) + b"\0",
        "socks5": b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton(host) + struct.pack("!H", int(port)),
        "proxy": f"PROXY TCP4 10.0.0.1 {host} 40000 {port}\r\n".encode(),
    }


def say(family, at, words, canary):
    """say=PROTOCOL, then the canary: "closed", or what else happens, and " late" after more than PROMPT."""
    s = call("socket", socket.socket, family, socket.SOCK_STREAM)
    s.settimeout(LIMIT)
    call("connect", s.connect, at)
    begin = time.monotonic()
    if words["say"].startswith("tls"):
        said = tls(s, words, canary)
    else:
        said = clear(s, connect_to(words.get("target"))[words["say"]], canary)
    late = time.monotonic() - begin > PROMPT
    return said + " late" if late else said


def clear(s, first, canary):
    try:
        if first != b"":
            s.sendall((first or b"") + canary)
        while piece := s.recv(4096):
            if canary in piece:
                return "ok"
        return "closed"
    except socket.timeout:
        return "open"
    except OSError:
        return "closed"


def tls(s, words, canary):
    """A TLS client, with the ALPN protocol alpn and the certificate cert, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if "alpn" in words:
        context.set_alpn_protocols([words["alpn"]])
    if "cert" in words:
        context.load_cert_chain(words["cert"])
    try:
        with context.wrap_socket(s) as c:
            c.sendall(canary)
            while piece := c.recv(4096):
                if canary in piece:
                    return "ok"
        return "closed"
    except socket.timeout:
        return "open"
    except OSError:  # ssl.SSLError is one
        return "closed"


def read(family, at, words, canary):
    """open=PATH: opens a file or pin, or connects to a unix socket, of the daemon."""
    try:
        if words["open"].endswith(".sock"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.connect(words["open"])
        else:
            os.close(os.open(words["open"], os.O_RDONLY))
    except OSError as e:
        raise Failed("open: " + errno.errorcode[e.errno]) from None
    return "ok"
