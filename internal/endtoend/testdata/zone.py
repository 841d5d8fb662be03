# SPDX-License-Identifier: Apache-2.0
"""zone.py ADDRESS FILE: a name server for the lines "NAME IPV4" of a file, which it
reads at each query. Other names don't exist. It prints who asked for which name."""
import socket
import sys

s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
print("ready", flush=True)
while True:
    query, peer = s.recvfrom(4096)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind, name = query[at + 2], ".".join(labels).lower()
    print(peer[0], "asked", name, flush=True)
    zone = [line.split() for line in open(sys.argv[2])]
    found = [ip for host, ip in zone if host == name]
    answers = b""
    if kind == 1:  # A
        for ip in found:
            answers += b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04" + socket.inet_aton(ip)
    head = query[:2] + (b"\x81\x80" if found else b"\x81\x83") + b"\0\x01\0" + bytes([len(found) if answers else 0]) + b"\0\0\0\0"
    s.sendto(head + query[12:at + 5] + answers, peer)
