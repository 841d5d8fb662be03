#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures tacit beside haproxy, nginx and no proxy, and prints the table; see
# docs/bench.md. Usage: bench/peers.sh [quick]
set -euo pipefail
. "$(dirname "$0")/../build/prelude.sh"
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the benchmark makes namespaces, cgroups and eBPF programs: run it as root" >&2
	exit 1
fi
[ "${1-}" != quick ] || export BENCH_ROUNDS=${BENCH_ROUNDS:-1} BENCH_SECONDS=${BENCH_SECONDS:-1}
export BENCH_OUT=$PWD/bench/out TACIT_BIN=${TACIT_BIN:-$PWD/bin}
mkdir -p "$BENCH_OUT"
go test -c -o bin/bench.test ./internal/bench
if ! bin/bench.test -test.run '^$' -test.bench '^BenchmarkPeers$' -test.benchtime 1x -test.timeout 60m >bin/bench.log; then
	cat bin/bench.log >&2
	exit 1
fi
cat "$BENCH_OUT/table.txt"
[ "${1-}" = quick ] || cp "$BENCH_OUT/bench.svg" docs/bench.svg
