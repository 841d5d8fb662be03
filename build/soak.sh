#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The full counts, with the programs in bin: every package that has a long
# form, one after the other, and a table of what was counted at the end.
# Usage: build/soak.sh [ARGUMENT OF go test...]    (for one count: -run Crash)
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the tests make namespaces, cgroups and eBPF programs: run them as root" >&2
	exit 1
fi
export TACIT_BIN=$PWD/bin TACIT_SOAK=1
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0
for package in $(grep -rl --include='*_test.go' '"TACIT_SOAK"' . | xargs -n1 dirname | sort -u); do
	echo "==== $package"
	(cd "$package" && go test -count=1 -timeout 90m -v "$@" .) 2>&1 | tee -a "$out" || failed=1
done
printf '\n'
{
	printf 'COUNT\tWANTED\tSEEN\n'
	sed -n 's/^.*SOAK\t//p' "$out"
} | awk -F '\t' '{ printf "%-100s %-16s %s %s\n", $1, $2, $3, $4 }'
[ "$failed" = 0 ] || echo "some counts are wrong, or something failed: see WRONG and FAIL above" >&2
exit $failed
