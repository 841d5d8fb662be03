#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh TIME: every fuzz target of the module for this long, each on one
# processor. An input that fails is written below testdata/fuzz of its package:
# it is a seed from then on.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
time=${1:?fuzz.sh TIME}

# fuzz TIME FILE:TARGET: run one target, and show its output if it fails. A worker
# that is busy when the time is up makes go test fail without a failing input
# (https://go.dev/issue/75804); that is no failure.
fuzz() {
	local dir target out
	dir=$(dirname "${2%%:*}") target=${2##*:}
	if ! out=$(go test "$dir" -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x -parallel 1 2>&1) &&
		! { grep -qx ' *context deadline exceeded' <<<"$out" && ! grep -q 'Failing input\|panic' <<<"$out"; }; then
		printf 'FAIL %s %s\n%s\n' "$dir" "$target" "$out"
		return 1
	fi
	printf 'ok   %s %s: %s\n' "$dir" "$target" "$(grep -o 'execs: [0-9]*' <<<"$out" | tail -1)"
}
export -f fuzz
targets=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | sed 's/func //' | sort)
echo "==== $(wc -l <<<"$targets") fuzz targets, $time each, $(nproc) at a time"
xargs -P "$(nproc)" -I{} bash -c 'fuzz "$@"' fuzz "$time" {} <<<"$targets"
