# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# An adapter for the benchmark harness, whose README defines start and the variables
# that it may use. BENCH_SYSTEMS must name this folder. TACIT_BIN names the folder
# with tacitd and tacit; if it is unset, they are built.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../build/prelude.sh"

tacit_bin() {
	if [ -n "${TACIT_BIN:-}" ]; then
		echo "$TACIT_BIN"
		return
	fi
	local root
	root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
	[ -x "$WORK/bin/tacitd" ] || (cd "$root" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$WORK/bin/" ./cmd/tacitd ./cmd/tacit)
	echo "$WORK/bin"
}

check() {
	# exit, not return: the harness runs check in a process of its own, and the ERR trap must not report this
	[ -n "$CG_A" ] || { echo "tacit needs a cgroup v2 tree"; exit 1; }
	[ -z "${TACIT_BIN:-}" ] || [ -x "$TACIT_BIN/tacitd" ] || { echo "no tacitd in TACIT_BIN=$TACIT_BIN"; exit 1; }
}

version() { [ -z "${TACIT_BIN:-}" ] || "$TACIT_BIN/tacitd" --version | awk '{print $NF}'; }

# daemon SIDE ARGS... starts tacitd on A or B and waits until it answers
daemon() {
	local side=$1 ns cg ip i
	shift
	ns=NS_$side cg=CG_$side ip=IP_$side
	mkdir -p "$WORK/$side/bpf" "$WORK/$side/services"
	mount -t bpf bpf "$WORK/$side/bpf"
	spawn "${!ns}" "tacitd-$side" "$bin/tacitd" --node "host-${side,,}" --address "${!ip}" --cgroup "${!cg}" \
		--state-dir "$WORK/$side/state" --run-dir "$WORK/$side/run" --bpffs-dir "$WORK/$side/bpf/tacit" \
		--services-dir "$WORK/$side/services" --log-level warn "$@"
	for i in $(seq 200); do
		if tacit "$side" nodes >/dev/null 2>&1; then return; fi
		sleep 0.05
	done
	echo "tacitd on $side does not answer" >&2
	tail -n 5 "$WORK/tacitd-$side.log" >&2 || true
	return 1
}

# tacit SIDE ARGS... runs the CLI against the daemon of A or B
tacit() {
	local ns=NS_$1 socket=$WORK/$1/run/tacit.sock
	shift
	on "${!ns}" "$bin/tacit" --socket "$socket" "$@"
}

# settled waits until A sees both nodes alive and knows the service
settled() {
	local i
	for i in $(seq 200); do
		if [ "$(tacit A nodes --json | grep -c '"alive": true')" = 2 ] && tacit A resolve bench >/dev/null 2>&1; then return; fi
		sleep 0.05
	done
	echo "host-a and host-b do not meet" >&2
	return 1
}

start() {
	local port
	bin=$(tacit_bin)
	daemon A --bootstrap
	tacit A token create --node host-b --service bench >"$WORK/token"
	daemon B --join "$IP_A" --token-file "$WORK/token"
	tacit A service register client --cgroup "$CG_A/load" >&2
	for port in $PORTS; do
		tacit B service register bench --id "bench-$port" --port "$port" --cgroup "$CG_B/load" >&2
	done
	settled
	tacit A intention allow client bench --wait >&2
	echo "tls $IP_B:7947"
	echo "$IP_B"
}

# stop ends the daemons and removes what the kernel keeps of them
stop() {
	local side pid
	touch "$WORK/pids"
	while read -r pid; do kill -TERM "$pid" 2>/dev/null || true; done <"$WORK/pids"
	while read -r pid; do
		for _ in $(seq 100); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.05
		done
	done <"$WORK/pids"
	bin=$(tacit_bin)
	for side in A B; do
		local ns=NS_$side cg=CG_$side ip=IP_$side
		on "${!ns}" "$bin/tacitd" cleanup --address "${!ip}" --cgroup "${!cg}" --state-dir "$WORK/$side/state" \
			--run-dir "$WORK/$side/run" --bpffs-dir "$WORK/$side/bpf/tacit" >/dev/null || true
		umount -l "$WORK/$side/bpf" || true
	done
}
