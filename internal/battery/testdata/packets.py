# SPDX-License-Identifier: Apache-2.0
"""Hand-made segments, which no socket hook sees: by raw sockets and by packet sockets."""
import os
import socket
import struct
import time

from common import Failed, call

WAIT = 0.5  # for an answer; none is the result "silence"
SYN, RST, PSH, ACK = 2, 4, 8, 16
IPV6_CHECKSUM, ETH_IP, ETH_IPV6 = 7, 0x0800, 0x86DD


def fold(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def packed(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def segment(source, target, sport, dport, flags, seq=1, ack=0, data=b""):
    head = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0)
    s, d, size = packed(source), packed(target), len(head) + len(data)
    pseudo = s + d + (struct.pack("!BBH", 0, 6, size) if len(s) == 4 else struct.pack("!IBBH", size, 0, 0, 6))
    return head[:16] + struct.pack("!H", fold(pseudo + head + data)) + head[18:] + data


def datagram(source, target, payload):
    """The segment in an IP packet."""
    s, d = packed(source), packed(target)
    if len(s) == 16:
        return struct.pack("!IHBB", 6 << 28, len(payload), 6, 64) + s + d + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, 6, 0) + s + d
    return head[:10] + struct.pack("!H", fold(head)) + head[12:] + payload


def parse(packet):
    """Source address, source port, target port, flags, sequence, acknowledged, data; None for other packets."""
    if len(packet) > 39 and packet[0] >> 4 == 4 and packet[9] == 6:
        source, part = socket.inet_ntop(socket.AF_INET, packet[12:16]), packet[(packet[0] & 15) * 4:]
    elif len(packet) > 59 and packet[0] >> 4 == 6 and packet[6] == 6:
        source, part = socket.inet_ntop(socket.AF_INET6, packet[8:24]), packet[40:]
    else:
        return None
    sport, dport, seq, ack = struct.unpack("!HHII", part[:12])
    return source, sport, dport, part[13], seq, ack, part[(part[12] >> 4) * 4:]


def listen():
    """A packet socket for everything that arrives, on every device."""
    s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    s.settimeout(WAIT)
    return s


def wait(s, sport, dport, want):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        try:
            packet, where = s.recvfrom(65535)
        except socket.timeout:
            break
        p = parse(packet)
        if p and p[1:3] == (sport, dport) and p[3] & want:
            return p
    return None


def verdict(s, at, port):
    p = wait(s, at[1], port, RST | SYN)
    return "silence" if not p else "reset" if p[3] & RST else "accepted"


def own_port():
    return 20000 + os.getpid() % 10000  # below the kernel's ephemeral ports, so that the capture tells them apart


def raw(family, at, words, canary):
    """A SYN by a raw socket from raw=ADDRESS."""
    port, ear = own_port(), listen()
    s = call("socket", socket.socket, family, socket.SOCK_RAW, socket.IPPROTO_TCP)
    if "mark" in words:
        call("mark", s.setsockopt, socket.SOL_SOCKET, socket.SO_MARK, int(words["mark"], 0))
    if "device" in words:
        call("device", s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, words["device"].encode() + b"\0")
    call("bind", s.bind, (words["raw"], 0))
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, IPV6_CHECKSUM, 16)
    call("send", s.sendto, segment(words["raw"], at[0], port, at[1], SYN), (at[0], 0))
    return verdict(ear, at, port)


def frame(family, at, words, canary):
    """A SYN with the canary as its data, in a frame to mac=…, from frame=ADDRESS, by eth0."""
    port, ear = own_port(), listen()
    kind = ETH_IPV6 if family == socket.AF_INET6 else ETH_IP
    s = call("socket", socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    mac = bytes.fromhex(words["mac"].replace(":", ""))
    packet = datagram(words["frame"], at[0], segment(words["frame"], at[0], port, at[1], SYN, data=canary))
    call("send", s.sendto, packet, ("eth0", kind, 0, 0, mac))
    return verdict(ear, at, port)


def inject(family, at, words, canary):
    """A SYN with the address of another host, which gets the answer: inject=ADDRESS#PORT."""
    source, _, port = words["inject"].partition("#")
    s = call("socket", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    call("send", s.sendto, datagram(source, at[0], segment(source, at[0], int(port), at[1], SYN)), (at[0], 0))
    raise Failed("sent")


def catch(family, at, words, canary):
    """The spoofed host continues the connection: catch=ADDRESS#PORT."""
    own, _, port = words["catch"].partition("#")
    port, ear = int(port), listen()
    s = call("socket", socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        p = wait(ear, at[1], port, SYN | RST)
        if not p:
            continue
        if p[3] & RST:
            return "reset"
        seq, ack = p[4] + 1, p[5]
        s.sendto(datagram(own, at[0], segment(own, at[0], port, at[1], PSH | ACK, ack, seq, canary)), (at[0], 0))
        answer = wait(ear, at[1], port, PSH | RST)
        return "ok" if answer and canary in answer[6] else "closed"
    return "silence"


def forge(family, at, words, canary):
    """A whole connection by hand-made segments from forge=ADDRESS, which no host has, so that no kernel resets it."""
    own, port, ear = words["forge"], own_port(), listen()
    s = call("socket", socket.socket, family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    call("send", s.sendto, datagram(own, at[0], segment(own, at[0], port, at[1], SYN)), (at[0], 0))
    p = wait(ear, at[1], port, SYN | RST)
    if not p or p[3] & RST:
        return "reset" if p else "silence"
    s.sendto(datagram(own, at[0], segment(own, at[0], port, at[1], PSH | ACK, p[5], p[4] + 1, canary)), (at[0], 0))
    answer = wait(ear, at[1], port, PSH | RST)
    return "ok" if answer and canary in answer[6] else "closed"
