#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, and only that, from the Debian archive.
# Usage: build/deps.sh run|real|generate|bench...
set -euo pipefail
. "$(dirname "$0")/prelude.sh"

# What is looked for (a command, or a file when it begins with /, with wildcards), and the package that has it.
wanted() {
	case $1 in
	run) echo "iptables=iptables nft=nftables ip=iproute2 curl=curl python3=python3 tcpdump=tcpdump sysctl=procps bpftool=bpftool make=make gcc=gcc musl-gcc=musl-tools busybox=busybox-static openssl=openssl" ;;
	real) echo "/usr/lib/postgresql/*/bin/postgres=postgresql redis-server=redis-server nginx=nginx-light sshd=openssh-server ssh=openssh-client rsync=rsync curl=curl" ;;
	generate) echo "clang=clang llvm-strip=llvm /usr/include/bpf/bpf_helpers.h=libbpf-dev" ;;
	bench) echo "wrk=wrk iperf3=iperf3 haproxy=haproxy nginx=nginx-light /usr/lib/nginx/modules/ngx_stream_module.so=libnginx-mod-stream" ;;
	*) echo "usage: $0 run|real|generate|bench..." >&2; exit 2 ;;
	esac
}

missing() {
	local set item
	for set in "$@"; do
		for item in $(wanted "$set"); do
			case $item in
			/*) compgen -G "${item%=*}" >/dev/null || echo "${item#*=}" ;;
			*) command -v "${item%=*}" >/dev/null || echo "${item#*=}" ;;
			esac
		done
	done | sort -u
}

# While servers are installed for the tests, the local policy (invoke-rc.d,
# deb-systemd-invoke) forbids starting them. The one that was there comes back.
policy=/usr/sbin/policy-rc.d
hold_services() {
	[ ! -e $policy ] || [ -e $policy.tacit ] || mv $policy $policy.tacit
	trap release_services EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
}

release_services() {
	rm -f $policy
	[ ! -e $policy.tacit ] || mv $policy.tacit $policy
}

installed() { dpkg-query --show --showformat '${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | sort -u; }

# disable_services PACKAGE...: nor do they start at the next boot
disable_services() {
	local name
	for name in $(dpkg -L "$@" | sed -n 's,^/etc/init\.d/,,p' | sort -u); do
		compgen -G "/etc/rc?.d/S??$name" >/dev/null || continue # it starts nowhere
		update-rc.d "$name" disable >/dev/null 2>&1 || echo "$name starts at the next boot: update-rc.d $name disable failed" >&2
	done
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
before=$(installed)
hold_services
# shellcheck disable=SC2086 # one word each
apt-get -qq -o DPkg::Lock::Timeout=120 install --yes --no-install-recommends $packages </dev/null >/dev/null
new=$(comm -13 <(echo "$before") <(installed))
# shellcheck disable=SC2086 # one word each
[ -z "$new" ] || disable_services $new
left=$(missing "$@" | tr '\n' ' ')
[ -z "$left" ] || { echo "still missing after the installation: $left" >&2; exit 1; }
