#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, and only that, from the Debian archive.
# Usage: build/deps.sh run|generate|bench...
set -euo pipefail
. "$(dirname "$0")/prelude.sh"

# What is looked for (a command, or a file when it begins with /), and the package that has it.
wanted() {
	case $1 in
	run) echo "iptables=iptables nft=nftables ip=iproute2 curl=curl python3=python3 tcpdump=tcpdump sysctl=procps bpftool=bpftool make=make gcc=gcc musl-gcc=musl-tools busybox=busybox-static" ;;
	generate) echo "clang=clang llvm-strip=llvm /usr/include/bpf/bpf_helpers.h=libbpf-dev" ;;
	bench) echo "wrk=wrk iperf3=iperf3 haproxy=haproxy openssl=openssl python3=python3" ;;
	*) echo "usage: $0 run|generate|bench..." >&2; exit 2 ;;
	esac
}

missing() {
	local set item
	for set in "$@"; do
		for item in $(wanted "$set"); do
			case $item in
			/*) [ -e "${item%=*}" ] || echo "${item#*=}" ;;
			*) command -v "${item%=*}" >/dev/null || echo "${item#*=}" ;;
			esac
		done
	done | sort -u
}

[ $# -gt 0 ] || wanted usage
for set in "$@"; do wanted "$set" >/dev/null; done
packages=$(missing "$@" | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: $packages; install them, or run this as root on Debian" >&2
	exit 1
fi
echo "installing: $packages"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=120 update
# shellcheck disable=SC2086 # one word each
apt-get -qq -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends $packages </dev/null >/dev/null
left=$(missing "$@" | tr '\n' ' ')
[ -z "$left" ] || { echo "still missing after the installation: $left" >&2; exit 1; }
