#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formatter first, then what finds mistakes. staticcheck.conf has the choice of
# checks; what only this project asks for is in internal/rules.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted, run gofmt -w:\n%s\n' "$unformatted" >&2
	exit 1
fi
build/lint-scripts.sh
go vet ./...
go tool staticcheck ./...
