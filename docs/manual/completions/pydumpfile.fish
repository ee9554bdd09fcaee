# SPDX-License-Identifier: GPL-2.0-or-later
# Completion of pydumpfile for fish. Made by `python -m docs.manual` from the table of options; do not edit.

complete -c pydumpfile -n __fish_use_subcommand -a compare -d 'measure which way of filtering is the fastest'
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l rounds
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l level
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l json
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l makedumpfile
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l no-dumps
complete -c pydumpfile -n '__fish_seen_subcommand_from compare' -l quiet
complete -c pydumpfile -n __fish_use_subcommand -a doctor -d 'say whether a crash would be dumped here'
complete -c pydumpfile -n '__fish_seen_subcommand_from doctor' -l json
complete -c pydumpfile -n '__fish_seen_subcommand_from doctor' -l initrd
complete -c pydumpfile -n '__fish_seen_subcommand_from doctor' -l target
complete -c pydumpfile -n __fish_use_subcommand -a initramfs -d 'put pydumpfile into a crash initramfs'
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l tree
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l cpio
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l install
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l codec
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l as-makedumpfile
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l with-compare
complete -c pydumpfile -n '__fish_seen_subcommand_from initramfs' -l compress

complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s c -d 'compress pages with zlib'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s l -d 'compress pages with lzo'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s p -d 'compress pages with snappy'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s z -d 'compress pages with zstd'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l compress -x -a 'none zlib lzo snappy zstd auto' -d 'compress pages with none, zlib, lzo, snappy or zstd'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l compress-level -x -d 'how hard to try, in the codec\'s own numbers'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s d -x -a '31 1' -d 'leave out pages by level, 0 to 31'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s E -d 'write an ELF core, uncompressed, of a VMCORE that is one'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s L -x -d 'take SIZE bytes, as 500M or 4G, for all the space there is'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l split -d 'write the dump as several DUMPFILEs, for several disks'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l splitblock-size -x -d 'end parts at multiples of this much memory'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l reassemble -d 'make DUMPFILE of the PARTs that --split wrote'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l dry-run -d 'write nothing, only say what would be'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l show-stats -d 'show makedumpfile\'s report of pages by kind as well'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s F -d 'write to standard output, for a pipe'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s R -d 'make DUMPFILE of what -F wrote, from standard input'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l dump-dmesg -d 'write the kernel\'s log instead of a dump'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l partial-dmesg -d 'only of it what came after the last dmesg -c'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s e -l exclude-unused-vm -d 'leave out the struct pages of pages left out as well'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l filter-in -x -a 'user kernel auto' -d 'judge pages in the crash kernel, which takes a patched one, or in user space'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l mem-usage -d 'only count pages by kind, of /proc/kcore or VMCORE'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l vtop -x -d 'show the page-table walk to a virtual address as well'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s x -r -F -d 'what VMCOREINFO lacks is in the debugging information of VMLINUX'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s i -r -F -d 'what VMCOREINFO lacks is in FILE, which -g has made'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s g -r -F -d 'make FILE of the VMLINUX of -x, for -i'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s f -d 'overwrite DUMPFILE if it exists'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l num-threads -x -d 'threads that read and compress'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l max-rss -x -d 'memory to use at most, as 40M'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l non-mmap -d 'read VMCORE with read(2), not mmap(2)'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l profile -d 'say what the time of a dump went into'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l check-params -d 'only say whether the command line is right'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -l message-level -x -d 'what to say, 0 to 31'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s D -d 'say details as well'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s v -l version -d 'show the version, and which codecs are there'
complete -c pydumpfile -n 'not __fish_seen_subcommand_from compare doctor initramfs' -s h -l help -d 'show a short help'
