# SPDX-License-Identifier: GPL-2.0-or-later
# What the services do with a dumper, each in a few lines: the same command line, the same renaming.

# kdump-utils (Fedora, RHEL), local target: under its own name only if the dumper says 0.
kdump_utils() {		# DIRECTORY
	mkdir -p "$1"
	makedumpfile -l --message-level 7 -d 31 /proc/vmcore "$1/vmcore-incomplete"
	status=$?
	if [ $status -eq 0 ]; then
		sync && mv "$1/vmcore-incomplete" "$1/vmcore"
	fi
	return $status
}

# The same to ssh or a raw disk; bash has pipefail, and so has busybox's shell.
kdump_utils_pipe() {	# DIRECTORY READER...
	mkdir -p "$1" && cd "$1" || return
	shift
	(
		set -o pipefail
		makedumpfile -l --message-level 7 -d 31 -F /proc/vmcore | "$@" >vmcore-incomplete
	)
	status=$?
	if [ $status -eq 0 ]; then
		mv vmcore-incomplete vmcore.flat
	fi
	cd /
	return $status
}

# kdump-tools (Debian, Ubuntu): the status is that of the last program in the pipe.
kdump_tools() {		# DIRECTORY [pipefail [READER...]]
	directory=$1 pipefail=$2
	mkdir -p "$directory"
	shift
	[ $# -gt 0 ] && shift
	[ $# -gt 0 ] || set -- cat
	(
		[ "$pipefail" = pipefail ] && set -o pipefail
		makedumpfile -F -c -d 31 /proc/vmcore | "$@" >"$directory/dump-incomplete"
	)
	status=$?
	if [ $status -eq 0 ]; then
		mv "$directory/dump-incomplete" "$directory/dump"
	fi
	return $status
}
