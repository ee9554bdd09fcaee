#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# /init of both kernels: the first loads the second and panics; that one does what lab.conf says.
export PATH=/bin:/sbin
SWITCH=/sys/module/kernel/parameters/vmcore_direct_map

# What was printed may still be on its way when the machine is off.
finish() {
	vmtool drain
	poweroff -f
}

fail() {
	echo "LAB-FAIL $*"
	finish
}

# Print a file or what a command prints, between lines the lab finds it by.
section() {
	name=$1
	shift
	echo "LAB-BEGIN $name"
	"$@"
	echo "LAB-END $name"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t debugfs debugfs /sys/kernel/debug
. /lab.conf		# FILL, CACHE, KINDS, KEXEC_OPTION, CRASH_COMMAND_LINE, STEPS

# Wait until a program that stays in the background, having written to a file, says so there.
until_said() {		# WORD FILE
	until grep "$1" "$2"; do
		kill -0 $! || fail "$(cat "$2")"
		sleep 0.2
	done
}

if [ ! -e /proc/vmcore ]; then
	grep -q elfcorehdr /proc/cmdline && fail "the crash kernel has no /proc/vmcore"
	kexec -p $KEXEC_OPTION /bzImage --initrd=/crash-initrd --append="$CRASH_COMMAND_LINE" ||
		fail "kexec -p $KEXEC_OPTION failed"
	if [ -n "$KINDS" ]; then
		insmod /oldmem_lab.ko offline_pages=3 || fail "insmod oldmem_lab.ko"
		kinds make >/tmp/made 2>&1 &
		until_said LAB-MADE /tmp/made
	fi
	if [ -n "$CACHE" ]; then
		mount -t tmpfs -o size=100% cache /mnt || fail "no tmpfs"
		vmtool cache /mnt/file "$CACHE" || fail "could not fill the page cache"
	fi
	vmtool fill $FILL >/tmp/filled &
	until_said LAB-FILLED /tmp/filled
	[ -z "$KINDS" ] || kinds count
	echo "LAB-PANIC-NEXT"
	echo c >/proc/sysrq-trigger
	fail "no panic"
fi

echo "LAB-CRASH-KERNEL $(uname -r)"
section headers vmtool headers

# The steps that lab.conf can name.

switch() {		# on|off
	if [ "$1" = on ]; then echo 1 >$SWITCH; else echo 0 >$SWITCH; fi
	section switch cat $SWITCH
}

tables() {		# NAME: the page tables now
	section "tables-$1" cat /sys/kernel/debug/page_tables/kernel
}

messages() {		# NAME: the kernel's log now
	section "dmesg-$1" dmesg
}

hashes() {		# ioremap|direct SIZE...: whole vmcore, by read with each block size
	name=$1
	shift
	for size in "$@"; do
		section "hash-$name" vmtool hash read "$size"
	done
}

mmaps() {		# NAME WINDOW...: whole vmcore, by mmap
	name=$1
	shift
	for size in "$@"; do
		section "hash-$name" vmtool hash mmap "$size"
	done
}

# Of 16 pages of old memory, how many are read one by one, by ioremap. Equal hashes and page tables do
# not tell whether the direct mapping is used.
paged() {		# NAME
	tracing=/sys/kernel/debug/tracing
	echo copy_oldmem_page >$tracing/set_ftrace_filter &&
		echo function >$tracing/current_tracer || fail "no function tracer"
	gnu-dd if=/proc/vmcore of=/dev/null bs=64k skip=16 count=1 2>/dev/null ||
		fail "could not read 64 KiB"
	echo 0 >$tracing/tracing_on
	section "paged-$1" grep -c ': copy_oldmem_page <-' $tracing/trace
	echo nop >$tracing/current_tracer
	echo >$tracing/set_ftrace_filter
	echo 1 >$tracing/tracing_on
}

hot_adds() {		# PADDR...: add a block of memory each, or try to
	for paddr in "$@"; do
		section "hot-add-$paddr" sh -c \
			"echo $paddr >/sys/devices/system/memory/probe && echo added" 2>&1
	done
}

module() {		# ARGUMENT...
	insmod /oldmem_lab.ko "$@" || fail "insmod oldmem_lab.ko $*"
}

dds() {			# NAME MIB REPEATS SIZE_KIB...
	name=$1
	mib=$2
	repeats=$3
	shift 3
	for repeat in $(seq "$repeats"); do
		for kib in "$@"; do
			echo "LAB-DD $name $kib $(gnu-dd if=/proc/vmcore of=/dev/null bs="${kib}k" \
				count=$((mib * 1024 / kib)) 2>&1 | tail -n 1)"
		done
	done
}

ceilings() {		# MIB REPEATS
	for repeat in $(seq "$2"); do
		insmod /oldmem_lab.ko ceiling_mib="$1" && rmmod oldmem_lab
		vmtool copy "$1"
	done
	section ceilings sh -c 'dmesg | grep "oldmem_lab: memcpy"'
}

# 2 MiB of old memory that are a hole, mapped by init_memory_mapping(), and a page of them again.
split_demo() {
	range=$(dmesg | sed -n 's/.*vmcore: \[oldmem \(0x[0-9a-f]*\)-\(0x[0-9a-f]*\)\]$/\1 \2/p' |
		while read -r start end; do
			[ $((end - start)) -gt $((64 << 20)) ] && echo "$start"
		done | tail -n 1)
	[ -n "$range" ] || fail "no oldmem range large enough"
	paddr=$(((range + (32 << 20)) & ~((2 << 20) - 1)))
	address=$(sed -n 's/^\([0-9a-f]*\) . init_memory_mapping$/0x\1/p' /proc/kallsyms)
	[ -n "$address" ] || fail "no init_memory_mapping in kallsyms"
	module "map_function=$address" "demo_paddr=$paddr"
	section split-paddr echo "$paddr"
}

# Open /proc/vmcore with the switch on, granting N pages and failing all allocations after them.
# What the pages were for stays, so that 1 again and again fails at each step once.
failing_opens() {	# N...
	for control in probability:100 interval:1 times:-1 task-filter:Y ignore-gfp-wait:N \
		ignore-gfp-highmem:N min-order:0 verbose:2; do
		echo "${control#*:}" >/sys/kernel/debug/fail_page_alloc/"${control%:*}" ||
			fail "no fault injection"
	done
	for pages in "$@"; do
		# An allocation passes while more is left than it takes.
		echo $((pages + 1)) >/sys/kernel/debug/fail_page_alloc/space
		section hash-failed vmtool hash-failing 65536
	done
}

# The kernel's filter against pydumpfile's: see pfn_lists.py.
pfn_lists_py() {	# ARGUMENT...
	home=/usr/lib/pydumpfile
	$home/bin/pydumpfile --inhibit-cache --library-path $home/libraries \
		$home/bin/python3 -I -S /lab/pfn_lists.py "$@" 2>&1
}

pfn_lists() {		# ARGUMENT...
	section "lists-$1" pfn_lists_py "$@"
}

# A vmcore_cb says of each so-manieth page with nothing but struct pages in it that it is not RAM.
struct_pages_not_ram() {	# EVERY
	place=$(pfn_lists_py place | sed -n 's/^LISTS PLACE \(0x[0-9a-f]*\) \(0x[0-9a-f]*\)$/\1 \2/p')
	[ -n "$place" ] || fail "no struct pages found"
	module "not_ram_every=$1" "not_ram_start=${place% *}" "not_ram_end=${place#* }"
}

# The whole command, whoever judges.
dump_twice() {		# OPTION...
	for place in user kernel; do
		section "dump-$place" /usr/bin/pydumpfile --filter-in "$place" "$@" \
			/proc/vmcore "/tmp/$place" 2>&1
	done
	section dumps-differ cmp /tmp/user /tmp/kernel 2>&1
	section dump-sizes stat -c %s /tmp/user /tmp/kernel
}

# The same at each level: hashes only, for there is no room for so many dumps.
dumps_of_levels() {	# FIRST END OPTION...
	first_level=$1
	end_level=$2
	shift 2
	for level in $(seq "$first_level" $((end_level - 1))); do
		for place in user kernel; do
			section "dump-$level-$place" hashed_dump --filter-in "$place" -d "$level" "$@"
		done
	done
}

hashed_dump() {		# OPTION...
	{
		/usr/bin/pydumpfile --message-level 6 -F "$@" /proc/vmcore 2>/tmp/said
		echo "ended with $?" >>/tmp/said
	} | sha256sum
	cat /tmp/said
}

# Which way of filtering is the fastest: a line of JSON.
compare() {		# ARGUMENT...
	section compare /usr/bin/pydumpfile compare --quiet --json - "$@"
}

eval "$STEPS"
echo "LAB-COPIED 0"
finish
