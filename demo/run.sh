#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo: three hosts, stock programs, one connection from name to proof.
# Usage: demo/run.sh BIN    (the folder with tacitd and tacit; see `make demo`)
set -euo pipefail
. "$(dirname "$0")/../build/prelude.sh"
BIN=$(cd "${1:?usage: demo/run.sh BIN}" && pwd)
HERE=$(cd "$(dirname "$0")" && pwd)
PATH=$BIN:$PATH
. "$HERE/lib.sh"

exec 9<"$CGROUPS" # a lock for the hosts' names; demos with different /run share it
flock -n 9 || { rmdir "$WORK"; fail "another demo is running: wait until it has ended"; }
remove_hosts # of a demo that was killed
trap 'code=$?; [ "$code" = 0 ] || show_logs; remove_hosts; rm -rf "$WORK" "$WORK".*; exit $code' EXIT
trap 'echo "demo: interrupted" >&2; exit 130' INT TERM
kernel_state >"$WORK.before"
make_hosts
for host in host1 host2 host3; do host_state "$host" >"$WORK/$host/before"; done

curl_b() { echo tacit run service-A -- curl -sS --max-time 10 "$@"; }

step "1. Three hosts become one mesh"
tacitd host1 --bootstrap
expect OK host1 sh -c "tacit token create --node host2 --service service-B > $WORK/token2"
expect OK host1 sh -c "tacit token create --node host3 > $WORK/token3"
tacitd host2 --join "$NET.1" --token-file "$WORK/token2"
tacitd host3 --join "$NET.1" --token-file "$WORK/token3"
wait_for "three nodes" sh -c "TACIT_SOCKET=$WORK/host1/run/tacit.sock tacit nodes --json | grep -c '\"alive\": true' | grep -qx 3"
expect OK host1 tacit nodes

step "2. Two services, defined in Consul's format; the programs are unmodified"
cp "$HERE/services/service-A.json" "$WORK/host1/services/"
cp "$HERE/services/service-B.json" "$WORK/host2/services/"
say "host2: a stock HTTP server that listens on 127.0.0.1 only, as service-B"
mkdir -p "$WORK/www"
echo "Hello World" >"$WORK/www/index.html"
head -c 268435456 /dev/zero >"$WORK/www/big"
say "host2\$ tacit run service-B -- python3 -m http.server 80 --bind 127.0.0.1"
wait_for "service-B's definition" sh -c "TACIT_SOCKET=$WORK/host2/run/tacit.sock tacit services | grep -q service-b"
enter host2 user tacit run service-B -- "$PYTHON" -m http.server 80 --bind 127.0.0.1 --directory "$WORK/www" >"$WORK/host2/web.log" 2>&1 || exit &
wait_for "both services" sh -c "TACIT_SOCKET=$WORK/host1/run/tacit.sock tacit resolve service-B"
wait_for "the web server" sh -c "nsenter --net=/run/netns/$PREFIX-host2 ss -Hltn 'sport = :80' | grep -q 127.0.0.1"
say "the services as host1 sees them; virtual addresses are valid on host1 only. service-A only calls: nothing listens on its port"
expect OK host1 tacit services

step "3. No intention allows a call of service-B yet: connect() itself is refused"
expect FAIL host1 $(curl_b http://service-B/)
say "the node gives the reason, for refused connections and for any pair of services:"
expect OK host1 tacit flows
expect OK host1 tacit intention explain service-A service-B

step "4. Allowed: the same call succeeds, by every name, without any configuration"
expect OK host1 tacit intention allow service-A service-B --wait
expect OK host1 $(curl_b http://service-B/)
expect OK host1 $(curl_b http://service-b.mesh/)
expect OK host1 $(curl_b http://service-B.service.consul:80/)
say "the explicit upstream of the Consul definition, for a migration (no listener exists):"
expect OK host1 $(curl_b http://localhost:12000)
show host1 ss -Hltn "sport = :12000"
say "for a program that isn't service-A, nothing listens there:"
expect FAIL host1 curl -sS --max-time 5 http://localhost:12000

step "5. On the wire there is TLS, and nothing of the payload"
enter net user tcpdump -i br0 -U -w "$WORK/wire.pcap" >/dev/null 2>"$WORK/tcpdump.log" &
tcpdump=$!
wait_for "tcpdump" grep -q listening "$WORK/tcpdump.log"
expect OK host1 $(curl_b http://service-B/)
wait_for "packets" env LC_ALL=C grep -aqP '\x17\x03\x03' "$WORK/wire.pcap"
xargs -r kill -INT <"$CGROOT/net/user/cgroup.procs" && wait "$tcpdump" || true
frames=$(tcpdump -r "$WORK/wire.pcap" 2>/dev/null | wc -l)
records=$(LC_ALL=C grep -aoP '\x17\x03\x03' "$WORK/wire.pcap" | wc -l)
printf 'frames captured between the hosts: %s\n' "$frames"
printf 'TLS application records in them:   %s\n' "$records"
canary=$(LC_ALL=C grep -aoc 'Hello World' "$WORK/wire.pcap" || true)
printf "times 'Hello World' is seen:       %s\n" "$canary"
[ "$canary" = 0 ] || fail "the payload was seen on the wire"
say "the identities proven on the lane, as each end saw them:"
expect OK host1 tacit status
expect OK host2 sh -c "tacit status | grep -A 1 '^LANE'"

step "6. A deny: a running download is cut, new calls are refused, on every node"
enter host1 user $(curl_b -o /dev/null --limit-rate 2M http://service-B/big) >"$WORK/download.log" 2>&1 || exit &
download=$!
wait_for "the download" sh -c "TACIT_SOCKET=$WORK/host1/run/tacit.sock tacit intention explain service-A service-B --json | grep -q '\"live\": \\['"
expect OK host1 tacit intention deny service-A service-B --wait
began=$(date +%s%N)
wait_for "the end of the download" sh -c "! nsenter --net=/run/netns/$PREFIX-host1 ss -Htn state established 'dst 240.64.0.0/12' | grep -q ."
printf 'connections of host1 to virtual addresses, %s ms after that answer: none\n' "$((($(date +%s%N) - began) / 1000000))"
wait "$download" && fail "the download was not cut" || true
printf 'message of the download: %s\n' "$(tail -n 1 "$WORK/download.log")"
expect FAIL host1 $(curl_b -v http://service-B/)
expect OK host1 tacit intention allow service-A service-B --wait
expect OK host1 $(curl_b http://service-B/)

step "7. Without an identity there is no connection, and the destination guards its port"
say "a program on host1 that belongs to no workload:"
expect FAIL host1 curl -sS --max-time 5 http://service-B/
say "host2: a second server of service-B, on all addresses, its port not registered yet"
enter host2 user tacit run service-B -- "$PYTHON" -m http.server 8080 --bind 0.0.0.0 --directory "$WORK/www" >"$WORK/host2/web2.log" 2>&1 || exit &
wait_for "the second server" sh -c "nsenter --net=/run/netns/$PREFIX-host2 ss -Hltn 'sport = :8080' | grep -q 8080"
expect OK host3 curl -sS --max-time 5 "http://$NET.2:8080/"
expect OK host2 tacit service register service-B --id service-B-2 --port 8080
say "the same plain call, now that the port belongs to a service:"
expect FAIL host3 curl -sS --max-time 5 "http://$NET.2:8080/"

step "8. Everything is removed"
for host in host1 host2 host3; do
	for pid in $(cat "$CGROOT/$host/tacit/daemon/cgroup.procs"); do kill -TERM "$pid"; done
	wait_for "the end of tacitd on $host" sh -c "! grep -q . $CGROOT/$host/tacit/daemon/cgroup.procs"
	expect OK "$host" tacitd cleanup --state-dir "$WORK/$host/state" --run-dir "$WORK/$host/run" \
		--bpffs-dir "$BPF-$host/tacit" --cgroup "$CGROOT/$host" --address "$NET.${host#host}"
	host_state "$host" | diff "$WORK/$host/before" - || fail "$host is not as it was"
done
remove_hosts
# The kernel frees programs and maps a moment later. Objects that are new from now on
# aren't the demo's; those that another mesh made meanwhile disappear with it.
left=$(left_behind "$WORK.before")
for _ in $(seq 300); do
	[ -n "$left" ] || break
	sleep 0.2
	left=$(comm -12 <(printf '%s\n' "$left") <(left_behind "$WORK.before"))
done
[ -z "$left" ] || fail "left behind, or changed meanwhile by another program on this machine:"$'\n'"$left"
echo "programs, maps, links, rules, routes, namespaces, cgroups: none is left behind"
