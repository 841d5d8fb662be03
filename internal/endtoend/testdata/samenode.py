# Programs of one node that talk all the time.
#   samenode.py serve PORT ADDR...         an address with "only": IPV6_V6ONLY
#   samenode.py call LABEL=KIND=ADDR=PORT...
# A server says who it sees, and echoes lines. A caller prints for each label who took
# the connection ("direct": the program, "carried": somebody between) and as whom the
# program sees it, then the number of each line that came back, and how it ended.
import errno, select, socket, sys, threading, time

saying = threading.Lock()


def serve(port, *addresses):
    listeners = []
    for a in addresses:
        addr, _, only = a.partition(" ")
        s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in addr:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only == "only")
        s.bind((addr, int(port)))
        s.listen(64)
        listeners.append(s)
    while True:
        for s in select.select(listeners, [], [])[0]:
            c, peer = s.accept()
            assert c.getpeername()[:2] == peer[:2]
            threading.Thread(target=echo, args=(c, peer), daemon=True).start()


def echo(c, peer):
    try:
        c.sendall(b"%s %d\n" % (peer[0].encode(), peer[1]))
        for line in c.makefile("rb"):
            c.sendall(line)
    except OSError:
        pass
    c.close()


def call(label, kind, addr, port):
    def say(*words):
        with saying:
            print(label, *words, flush=True)

    s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    s.settimeout(10)
    try:
        if kind == "v6only":
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind.startswith("bound"):
            s.bind(("::1" if ":" in addr else "127.0.0.1", 0))
        if kind == "fastopen":  # with data in the SYN
            s.sendto(b"in the SYN\n", socket.MSG_FASTOPEN, (addr, int(port)))
        else:
            s.connect((addr, int(port)))
        assert s.getpeername()[:2] == (addr, int(port)), s.getpeername()
        lines = s.makefile("rb")
        seen, seen_port = lines.readline().decode().split()
        if kind == "fastopen" and lines.readline() != b"in the SYN\n":
            return say("ended: the SYN's data is lost")
        direct = int(seen_port) == s.getsockname()[1]
        say("direct" if direct else "carried", seen)
        n = 0
        while direct:
            n += 1
            s.sendall(b"%d\n" % n)
            back = lines.readline()
            if back != b"%d\n" % n:
                return say("ended: got %r for %d" % (back, n))
            say(n)
            time.sleep(0.02)
    except OSError as e:
        say("ended:", errno.errorcode.get(e.errno, e))


if sys.argv[1] == "serve":
    serve(*sys.argv[2:])
threads = [threading.Thread(target=call, args=a.split("=")) for a in sys.argv[2:]]
for t in threads:
    t.start()
for t in threads:
    t.join()
