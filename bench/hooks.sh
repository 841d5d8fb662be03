#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the hooks cost a connect, with the kernel's run-time statistics, for
# ten to a hundred thousand intentions. See bpf/cost_test.go.
set -euo pipefail
. "$(dirname "$0")/../build/prelude.sh"
cd "$(dirname "$0")/.."
go test ./bpf -run '^$' -bench '^BenchmarkCost$' -benchtime "${COST_TIME:-20000x}" -count 1 | awk '
	BEGIN { printf "%-11s %-9s %11s %13s %13s   %s\n", "way", "verdict", "intentions", "decision, ns", "all hooks, ns", "the other hooks, ns each connection" }
	/^BenchmarkCost/ {
		split($1, part, "/"); sub(/intentions=/, "", part[4]); sub(/-[0-9]+$/, "", part[4])
		decision = chain = rest = ""
		for (i = 3; i < NF; i += 2) {
			unit = $(i + 1)
			if (unit == "connect4-ns") decision = $i
			else if (unit == "chain-ns") chain = $i
			else if (unit ~ /-ns$/) { sub(/-ns$/, "", unit); rest = rest " " unit " " $i }
		}
		printf "%-11s %-9s %11s %13s %13s  %s\n", part[2], part[3], part[4], decision, chain, rest
		group = part[2] " " part[3]
		if (!(group in few)) few[group] = decision
		if (decision > 2 * few[group]) { grown = grown "\n" group ": " few[group] " ns grow to " decision " ns" }
		next
	}
	/^(--- )?FAIL|panic|_test.go/ { print; failed = 1 }
	END {
		if (grown) print "a decision takes longer when there are more intentions:" grown
		exit failed || grown != ""
	}'
