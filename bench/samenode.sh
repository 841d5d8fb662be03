#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Compares calls between programs of one node with the same calls on a host without
# tacit, by a daemon in network namespaces: see internal/endtoend/samenode_bench_test.go.
# Goals: at least 0.95 x direct, and connect() at most 5 µs more. SAMENODE_ROUNDS: how
# many rounds, of which the median counts.
set -euo pipefail
. "$(dirname "$0")/../build/prelude.sh"
cd "$(dirname "$0")/.."
go test ./internal/endtoend -run '^$' -bench '^BenchmarkSameNode$' -benchtime "${SAMENODE_ROUNDS:-7}x" -count 1 | awk '
	BEGIN { printf "%-10s %12s %12s %14s %22s\n", "same node", "calls/s", "x direct", "connect, µs", "more than direct, µs" }
	/^BenchmarkSameNode\// {
		split($1, part, "/"); sub(/-[0-9]+$/, "", part[2])
		for (i = 3; i < NF; i += 2) value[$(i + 1)] = $i
		ratio = value["x-direct"]; more = value["µs-more-than-direct"]
		printf "%-10s %12d %12.3f %14.1f %22.1f%s\n", part[2], value["calls/s"], ratio, value["connect-µs"], more, (ratio < 0.95 || more > 5 ? "   misses the goal" : "")
		rows++
		next
	}
	/^(--- )?FAIL|panic|_test.go/ { print; failed = 1 }
	END { exit failed || rows != 2 }'
