#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command as the first one on a new machine: in a mount namespace where
# /run is empty (no netns, no lock, no xtables.lock), /etc/iproute2 is empty,
# no bpffs is mounted at /sys/fs/bpf, and PATH has neither sbin nor Go's folder.
# Usage: build/bare.sh CMD...
set -euo pipefail
. "$(dirname "$0")/prelude.sh"

hide() {
	local resolver text=
	resolver=$(readlink -f /etc/resolv.conf || true)
	case $resolver in /run/*) text=$(cat "$resolver") ;; esac
	mount -t tmpfs -o mode=755 tmpfs /run
	if [ -n "$text" ]; then # names must resolve: apt and go download
		mkdir -p "$(dirname "$resolver")"
		printf '%s\n' "$text" >"$resolver"
	fi
	# Only what exists is covered: apt must be able to install the package.
	[ ! -d /etc/iproute2 ] || mount -t tmpfs -o ro tmpfs /etc/iproute2
	while mountpoint -q /sys/fs/bpf; do umount -l /sys/fs/bpf; done
}

# verify stops when something is still there that a new machine lacks
verify() {
	local path
	for path in /run/netns /run/lock /run/xtables.lock /run/tacit /etc/iproute2/*; do
		[ ! -e "$path" ] || { echo "$0: $path is there: it must be absent" >&2; exit 1; }
	done
	if mountpoint -q /sys/fs/bpf; then
		echo "$0: something is mounted at /sys/fs/bpf" >&2
		exit 1
	fi
}

# bare_path is the PATH of a plain user's shell. Go's folder is kept only where
# the Makefile could not find it.
bare_path() {
	local go
	go=$(command -v go || true)
	case $go in
	"" | /usr/local/go/bin/go | /usr/bin/go | /usr/local/bin/go) echo /usr/local/bin:/usr/bin:/bin ;;
	*) echo "/usr/local/bin:/usr/bin:/bin:${go%/*}" ;;
	esac
}

if [ "${1-}" != --inside ]; then
	[ $# -gt 0 ] || { echo "usage: build/bare.sh CMD..." >&2; exit 2; }
	exec unshare --mount --propagation private -- "$0" --inside "$@"
fi
shift
hide
verify
PATH=$(bare_path)
exec "$@"
