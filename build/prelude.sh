# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What every script sources right after `set -euo pipefail`: the programs that
# a plain user's PATH lacks are found, and the command that ends a script is
# named with file, line and exit status. A command whose failure is expected
# stands in a condition or before ||: nothing is printed for it.
set -euo pipefail
set -E                   # functions and subshells inherit the trap
shopt -s inherit_errexit # $(...) stops at its first failure, too
case :$PATH: in
*:/usr/local/go/bin:/usr/sbin:/sbin:*) ;;
*) PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin ;;
esac

# on_error STATUS STATUSES: of the command, and of each command of a pipe
on_error() {
	local pipe= i
	[[ $2 != *' '* ]] || pipe=" (statuses of the pipe: $2)"
	printf '%s:%s: exit status %s%s: %s\n' "${BASH_SOURCE[1]:-$0}" "${BASH_LINENO[0]}" "$1" "$pipe" "$BASH_COMMAND" >&2
	for ((i = 2; i < ${#BASH_SOURCE[@]}; i++)); do
		printf '  in %s, called at %s:%s\n' "${FUNCNAME[i - 1]}" "${BASH_SOURCE[i]}" "${BASH_LINENO[i - 1]}" >&2
	done
}
trap 'on_error "$?" "${PIPESTATUS[*]}"' ERR
