#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test, on the real kernel, with the programs in bin. Packages that count
# the kernel's eBPF objects, everybody's, and the soak, which takes the whole
# machine, run one by one after the others.
# Usage: build/test.sh [race]
# With race: tests and programs (in bin/race) run under the race detector, and
# a race in any process fails the run. Without the battery and the soak, whose
# timing a program that runs ten times slower can't keep.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the tests make namespaces, cgroups and eBPF programs: run them as root" >&2
	exit 1
fi
export TACIT_BIN=$PWD/bin
flags=(-count=1)
left_out=none
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
if [ "${1-}" = race ]; then
	export TACIT_BIN=$PWD/bin/race GORACE="log_path=$reports/race"
	flags+=(-race)
	left_out='tacit/internal/(battery|soak)'
fi
all=$(go list ./... | grep -vxE "$left_out")
counting=$(grep -rlE --include='*_test.go' -e 'testhost\.CountObjects\(' -e '^package soak$' . | xargs -n1 dirname | sort -u | sed 's,^\./,tacit/,')
alone=$(grep -xF "$counting" <<<"$all" | grep -vx tacit/internal/testhost || true)
together=$(grep -vxF "${alone:-none}" <<<"$all")
failed=0
echo "==== $(wc -l <<<"$together") packages, several at a time"
# shellcheck disable=SC2086 # one word each
go test "${flags[@]}" -timeout 8m $together || failed=1
if [ -n "$alone" ]; then
	echo "==== one at a time:" $alone
	go test "${flags[@]}" -timeout 8m -p 1 $alone || failed=1
fi
for report in "$reports"/*; do
	[ -e "$report" ] || break
	printf '\n==== a race, in process %s\n' "${report##*.}" >&2
	cat "$report" >&2
	failed=1
done
[ "$failed" = 0 ] || echo "$0: failed: see FAIL and races above" >&2
exit $failed
