# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What the scripts of this directory share. Sourced, never run.

set -uo pipefail

qemu_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
top=$(cd -- "$qemu_dir/../.." && pwd)
# shellcheck disable=SC2034 # used by those who source this file
build=$top/build
# Kernels and other large things, kept outside the tree: they survive a clean clone.
cache=${VIREO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vireo}

say()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

die()
{
	say "$@"
	exit 1
}

# The comment block at the head of a script is its help text.
usage()
{
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
	exit "${1:-0}"
}

# Take a lock for the rest of this script's life.
lock()
{
	mkdir -p "$(dirname "$1")" || die "cannot create $(dirname "$1")"
	exec {lock_fd}>"$1" || die "cannot open $1"
	flock -n "$lock_fd" || {
		say "waiting for $1"
		flock "$lock_fd"
	}
}

# shellcheck disable=SC2034 # used by those who source this file
qemu=("$cache/qemu/usr/bin/qemu-system-x86_64" -L "$cache/qemu/usr/share/seabios"
	-L "$cache/qemu/usr/share/qemu")

# A kernel is named 6.1, 6.12, either of them with -cloud behind it, or debug.
# kernel_dir says where its files are, kernel_flavour how their names end.
kernel_dir()
{
	[ -e "$cache/${1%-cloud}/release" ] || die "no kernel $1 in $cache; run" \
		"selftests/qemu/fetch (or debug-kernel)"
	printf '%s\n' "$cache/${1%-cloud}"
}

kernel_flavour()
{
	case $1 in
	*-cloud) echo -cloud ;;
	esac
}

# Build everything that a host with this kernel runs.
build_for()
{
	local dir

	dir=$(kernel_dir "$1") || return 1
	make -s -C "$top" modules "KDIR=$dir/build$(kernel_flavour "$1")" &&
		make -s -C "$top" tools selftests
}

# Build the guest drivers for the kernels that a job's guests have them for.
build_drivers() # JOB...
{
	local job kernel dir

	for job; do
		sed -n 's/^# drivers: *//p' "$qemu_dir/jobs/$job.sh"
	done | tr ' ' '\n' | sort -u | while read -r kernel; do
		dir=$(kernel_dir "$kernel") || return 1
		make -s -C "$top" modules "KDIR=$dir/build$(kernel_flavour "$kernel")" || return 1
	done
}
