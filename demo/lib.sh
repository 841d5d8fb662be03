#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo's hosts: three, each a network namespace and a cgroup, joined by a bridge
# in a fourth namespace. Sourced by run.sh.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../build/prelude.sh"

NET=10.98.0
PREFIX=tacit-demo
CGROUPS=$(awk '$0 ~ / - cgroup2 / {print $5; exit}' /proc/self/mountinfo)
[ -n "$CGROUPS" ] || { echo "demo: no cgroup v2 tree is mounted: mount one (mount -t cgroup2 none /sys/fs/cgroup)" >&2; exit 1; }
CGROOT=$CGROUPS/$PREFIX
WORK=$(mktemp -d "${TMPDIR:-/tmp}/$PREFIX.XXXXXX")
BPF=$WORK/bpf
PYTHON=$(command -v /usr/bin/python3 || command -v python3)

bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
[ -t 1 ] || bold='' dim='' plain=''

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s   %s%s\n' "$dim" "$*" "$plain"; }
fail() { printf '\nDEMO FAILED: %s\n' "$*" >&2; exit 1; }

# enter HOST CGROUP CMD... runs CMD on a host, in a child cgroup of that host.
# CMD doesn't inherit the demo's lock (descriptor 9), so that the next demo can end it.
enter() {
	local host=$1 cgroup=$CGROOT/$1/$2
	shift 2
	mkdir -p "$cgroup"
	(
		echo "$BASHPID" >"$cgroup/cgroup.procs"
		exec 9>&- nsenter --net="/run/netns/$PREFIX-$host" -- env TACIT_SOCKET="$WORK/$host/run/tacit.sock" "$@"
	)
}

# show HOST CMD... prints the command as a user would type it, and its output
show() {
	local host=$1
	shift
	printf '%s$ %s\n' "$host" "$(words "$@")"
	local code=0
	enter "$host" user "$@" 2>&1 | sed 's/^/  /' || code=$?
	return "$code"
}

words() {
	local w out=
	for w in "$@"; do
		w=${w##"$BIN"/}
		w=${w//"$WORK"\//}
		case $w in
		*"'"*) w="\"$w\"" ;;
		*' '*) w="'$w'" ;;
		esac
		out+="$w "
	done
	printf '%s' "${out% }"
}

# expect OK|FAIL HOST CMD... shows the command and stops the demo on the other result
expect() {
	local want=$1 got=OK
	shift
	show "$@" || got=FAIL
	[ "$got" = "$want" ] || fail "expected $want from: $*"
}

make_hosts() {
	local host n=0
	mkdir -p "$CGROOT"
	ip netns add "$PREFIX-net"
	ip -n "$PREFIX-net" link add br0 type bridge
	ip -n "$PREFIX-net" link set br0 up
	for host in host1 host2 host3; do
		n=$((n + 1))
		mkdir -p "$CGROOT/$host" "$WORK/$host/services" "$BPF-$host"
		mount -t bpf bpf "$BPF-$host"
		ip netns add "$PREFIX-$host"
		ip -n "$PREFIX-net" link add "to-$host" type veth peer name eth0 netns "$PREFIX-$host"
		ip -n "$PREFIX-net" link set "to-$host" master br0 up
		ip -n "$PREFIX-$host" addr add "$NET.$n/24" dev eth0
		ip -n "$PREFIX-$host" link set eth0 up
		ip -n "$PREFIX-$host" link set lo up
	done
}

# tacitd HOST ARGS... starts a daemon in the background and waits until it answers
tacitd() {
	local host=$1
	shift
	printf '%s$ tacitd %s &\n' "$host" "$(words "$@")"
	enter "$host" system setsid "$BIN/tacitd" --node "$host" --address "$NET.${host#host}" \
		--state-dir "$WORK/$host/state" --run-dir "$WORK/$host/run" --services-dir "$WORK/$host/services" \
		--bpffs-dir "$BPF-$host/tacit" --cgroup "$CGROOT/$host" "$@" >"$WORK/$host/tacitd.log" 2>&1 &
	wait_for "tacitd on $host" enter "$host" user "$BIN/tacit" status --json
}

# wait_for WHAT CMD... waits until CMD succeeds, at most 15 s
wait_for() {
	local what=$1 end=$((SECONDS + 15)) said
	shift
	until said=$("$@" 2>&1); do
		[ "$SECONDS" -lt "$end" ] || fail "waited 15 s for $what${said:+; the last output was: $said}"
		sleep 0.1
	done
}

# show_logs prints the end of each log of each host
show_logs() {
	local log
	for log in "$WORK"/*/*.log; do
		[ ! -s "$log" ] || { echo "==> ${log#"$WORK"/} <=="; tail -n 8 "$log"; } >&2
	done
}

# kernel_state lists the objects that a mesh could leave behind, one a line
kernel_state() {
	local kind
	for kind in prog map link; do
		bpftool "$kind" show 2>/dev/null | sed -n "s/^\([0-9]*\): .*/$kind \1/p" || true
	done
	ip rule | sed 's/^/rule /'
	ip -6 rule | sed 's/^/rule6 /'
	ip route show table all | sed 's/^/route /'
	iptables-save 2>/dev/null | grep '^-' | sed 's/^/iptables /' || true
	ip netns list | sed -n "s/^$PREFIX-/namespace &/p" # lists nothing if there was never a namespace
	find "$CGROUPS" -maxdepth 1 -type d -name "$PREFIX*" | sed 's/^/cgroup /'
}

# left_behind BEFORE prints, sorted, the objects that are new since BEFORE, and the
# machine's rules and routes that are gone
left_behind() {
	kernel_state | sort >"$1.now"
	{
		comm -13 <(sort "$1") "$1.now"
		comm -23 <(sort "$1") "$1.now" | sed -nE 's/^(rule|route|iptables)/gone: &/p'
	} | sort
}

# host_state lists the rules, routes and pins of one host
host_state() {
	nsenter --net="/run/netns/$PREFIX-$1" sh -c 'ip rule; ip -6 rule; ip route show table all; iptables-save | grep "^-"; ip6tables-save | grep "^-"; true' | grep -v -e multicast -e 'ff00::' -e ' fe80::'
	find "$BPF-$1" -mindepth 1
}

kill_group() {
	[ -e "$CGROOT/$1/cgroup.kill" ] && echo 1 >"$CGROOT/$1/cgroup.kill" || true
}

remove_hosts() {
	local host
	for host in host1 host2 host3 net; do
		kill_group "$host"
	done
	for host in host1 host2 host3; do
		umount "$BPF-$host" 2>/dev/null || true
		ip netns del "$PREFIX-$host" 2>/dev/null || true
	done
	ip netns del "$PREFIX-net" 2>/dev/null || true
	for _ in $(seq 50); do
		[ -e "$CGROOT" ] || break
		find "$CGROOT" -depth -type d -exec rmdir {} + 2>/dev/null && break
		sleep 0.1
	done
}
