#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests.sh ARG...: go test ARG..., and what failed once more, alone. Packages
# run beside each other on as little as two processors, where a test may miss a
# deadline because others were at work. A test that passes alone only is named
# at the end, with its first output above: a fault that shows now and then may
# pass alone as well, so read it. What can't be a matter of time is not run
# again: a package that doesn't build, a panic, a data race.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if go test "$@" 2>&1 | tee "$log"; then
	exit 0
fi
if grep -qE '^(panic:|fatal error:|FAIL.*\[)|race detected during execution of test' "$log"; then
	exit 1
fi
flags=()
for arg; do
	case $arg in -*) flags+=("$arg") ;; esac
done
# A line for each package that failed: its path, and its failed tests as a pattern.
failed=$(awk '$1 == "---" && $2 == "FAIL:" && /^---/ { names = names (names == "" ? "" : "|") $3 }
	$1 == "FAIL" && NF >= 3 { print $2, (names == "" ? "?" : "^(" names ")$"); names = "" }
	$1 == "ok" { names = "" }' "$log")
[ -n "$failed" ] || exit 1
while read -r package tests; do
	echo "==== again, alone: $package $tests"
	if [ "$tests" = '?' ] || ! go test "${flags[@]}" "$package" -run "$tests" </dev/null; then
		exit 1
	fi
done <<<"$failed"
printf '==== failed beside others, passed alone:\n%s\n' "$failed"
