#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Is every generated file what its sources give? Generates anew in a copy and
# compares; the tree isn't touched.
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude=./.git --exclude=./bin -cf - . | tar -xf - -C "$copy"
(cd "$copy" && go generate ./...)
if ! diff -rq --exclude=.git --exclude=bin . "$copy"; then
	echo "generated files are not what the sources give: run 'make generate' and commit what it changes" >&2
	exit 1
fi
