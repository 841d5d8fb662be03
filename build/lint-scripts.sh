#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Does every script, and every recipe of the Makefile, say which command ended
# it, and nothing about failures that it expects?
set -euo pipefail
. "$(dirname "$0")/prelude.sh"
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
wrong=0

complain() { printf '%s\n' "$@" >&2; wrong=1; }

# sources_prelude: right after `set -euo pipefail`, before anything can fail
sources_prelude() {
	grep -A 1 -x 'set -euo pipefail' "$1" | grep -qE '^\. ".*prelude\.sh"( |$)'
}

# says WANT SCRIPT: a failing script must print exactly WANT, a regular expression with <dir> for its folder
says() {
	local got
	printf 'set -euo pipefail\n. "%s/build/prelude.sh"\n%s\n' "$PWD" "$2" >"$dir/x.sh"
	if got=$(bash "$dir/x.sh" 2>&1) && [ -n "$1" ]; then
		complain "prelude.sh: no failure from: $2"
	fi
	[[ ${got//"$dir"/<dir>} =~ ^$1$ ]] || complain "prelude.sh: after: $2" "  want: $1" "  got:  $got"
}

for script in build/*.sh bench/*.sh demo/*.sh .ci/run; do
	bash -n "$script"
	[ "$script" = build/prelude.sh ] || sources_prelude "$script" ||
		complain "$script: source build/prelude.sh in the line after 'set -euo pipefail'"
done

says '<dir>/x.sh:3: exit status 3: \( exit 3 \)' '(exit 3)'
says '<dir>/x.sh:4: exit status 1 \(statuses of the pipe: 1 0\): cat' $'\nfalse | cat'
says $'<dir>/x.sh:3: exit status 1: false\n  in f, called at <dir>/x.sh:4' $'f() { false; }\nf'
says $'<dir>/x.sh:3: exit status 1: false\n<dir>/x.sh:3: exit status 1: x=.*' 'x=$(false; echo unseen)'
says '' 'false || true; if false; then :; fi; ! true; x=$(false) || true; [ -n "$(false)" ] || true'

if got=$(make -s --no-print-directory -f Makefile -f - failing 2>&1 <<<$'failing:\n\t@false | cat'); then
	complain "Makefile: a failing pipe passes"
fi
[[ $got == *'recipe:1: exit status 1 (statuses of the pipe: 1 0): cat'* ]] || complain "Makefile: a recipe doesn't say which command failed:" "$got"

exit $wrong
