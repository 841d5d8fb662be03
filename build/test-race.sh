#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# test-race.sh PATTERN: the race detector, with the programs in bin/race: in every
# package's tests, then in the daemons of the end-to-end tests that match. The battery, the
# carrier, the soak and the real software are left out: they take too long. A race in any process fails
# the run.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the tests make namespaces, cgroups and eBPF programs: run them as root" >&2
	exit 1
fi
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
export TACIT_BIN=$PWD/bin/race GORACE="log_path=$reports/race atexit_sleep_ms=0"
failed=0
packages=$(go list ./... | grep -vxE 'tacit/internal/(battery|carrier|endtoend|reality|soak)')
echo "==== $(wc -l <<<"$packages") packages, several at a time"
# shellcheck disable=SC2086 # one word each
build/tests.sh -race -count=1 -timeout=25m $packages || failed=1
echo "==== daemons built with -race"
build/tests.sh -race -count=1 -timeout=45m -run="${1:?test-race.sh PATTERN}" ./internal/endtoend || failed=1
for report in "$reports"/*; do
	[ -e "$report" ] || break
	printf '\n==== a race, in process %s\n' "${report##*.}" >&2
	cat "$report" >&2
	failed=1
done
[ "$failed" = 0 ] || echo "$0: see FAIL and races above" >&2
exit $failed
