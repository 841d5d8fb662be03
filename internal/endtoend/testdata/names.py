# SPDX-License-Identifier: Apache-2.0
"""names.py ADDRESS: a name server that answers for the Internet, a company's zone
and a Consul agent, and prints each name that it was asked for."""
import socket
import sys

HOSTS = {
    "example.org": "192.0.2.1", "www.example.org": "192.0.2.1",
    "intranet.corp.example": "192.0.2.2", "shop.corp.example": "192.0.2.3",
    "evil.example": "240.64.0.1", "evil.corp.example": "240.64.0.2",
    # Consul's. The mesh has db and web, too.
    "redis.service.consul": "192.0.2.50", "redis.service.dc1.consul": "192.0.2.50", "v2.redis.service.consul": "192.0.2.50",
    "web.service.consul": "192.0.2.51", "canary.web.service.consul": "192.0.2.51", "x.db.service.consul": "192.0.2.51",
    "web.service.dc2.consul": "192.0.2.52", "node7.node.consul": "192.0.2.53", "search.query.consul": "192.0.2.54",
}
POINTERS = {"1.2.0.192.in-addr.arpa": "one.example.org", "9.9.64.240.in-addr.arpa": "liar.example.org"}


def packed(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def answer(name, kind):
    if kind == 1 and name in HOSTS:
        return socket.inet_aton(HOSTS[name])
    if kind == 12 and name in POINTERS:
        return packed(POINTERS[name])
    return b""


s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    query, peer = s.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    name, kind = ".".join(labels).lower(), query[at + 2]
    print("asked", name, flush=True)
    data = answer(name, kind)
    rcode = b"\x80" if name in HOSTS or name in POINTERS else b"\x83"
    record = b"\xc0\x0c" + query[at + 1:at + 5] + b"\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
    head = query[:2] + b"\x81" + rcode + b"\0\x01" + (b"\0\x01" if data else b"\0\0") + b"\0\0\0\0"
    s.sendto(head + query[12:at + 5] + (record if data else b""), peer)
