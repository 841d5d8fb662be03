#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures tacit, haproxy and no proxy over long and bad cables: 32 connections with
# requests, and bytes. See docs/bench.md. BENCH_SECONDS: of each load; 2 if unset.
set -euo pipefail
. "$(dirname "$0")/../build/prelude.sh"
cd "$(dirname "$0")/.."
export TACIT_BIN=${TACIT_BIN:-$PWD/bin}
go test -c -o bin/bench.test ./internal/bench
if ! bin/bench.test -test.run '^$' -test.bench '^BenchmarkCables$' -test.benchtime 1x >bin/cables.log; then
	cat bin/cables.log >&2
	exit 1
fi
