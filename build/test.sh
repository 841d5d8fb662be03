#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test, on the real kernel, with the programs in bin. Packages that count
# the kernel's eBPF objects, everybody's, and those that take the whole machine,
# the soak, the real software and the carrier, run one by one after the others.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ]; then
	echo "the tests make namespaces, cgroups and eBPF programs: run them as root" >&2
	exit 1
fi
export TACIT_BIN=$PWD/bin
all=$(go list ./...)
alone=$(grep -rl --include='*_test.go' -e 'testhost\.CountObjects(' -e '^package soak$' -e '^package reality$' -e '^package carrier$' . | xargs -r -n1 dirname | sort -u |
	sed 's,^\./,tacit/,' | grep -v '^tacit/internal/testhost$' || true)
failed=0
echo "==== $(grep -cvxF "${alone:-none}" <<<"$all") packages, several at a time"
# shellcheck disable=SC2046 # one word each
build/tests.sh -count=1 -timeout=40m $(grep -vxF "${alone:-none}" <<<"$all") || failed=1
[ -z "$alone" ] || echo "==== one at a time:" $alone
[ -z "$alone" ] || build/tests.sh -count=1 -timeout=20m -p=1 $alone || failed=1
[ "$failed" = 0 ] || echo "$0: see FAIL above" >&2
exit $failed
