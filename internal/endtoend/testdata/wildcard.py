# SPDX-License-Identifier: Apache-2.0
"""wildcard.py ADDRESS: a name server that has an answer to everything,
192.0.2.1, and prints each name that it was asked for."""
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
    kind = query[at + 2]
    print("asked", ".".join(labels).lower() + ".", flush=True)
    answers = b""
    if kind == 1:  # A
        answers = b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04" + socket.inet_aton("192.0.2.1")
    head = query[:2] + b"\x81\x80\0\x01" + (b"\0\x01" if answers else b"\0\0") + b"\0\0\0\0"
    s.sendto(head + query[12:at + 5] + answers, peer)
