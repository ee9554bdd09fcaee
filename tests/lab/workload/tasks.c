// SPDX-License-Identifier: GPL-2.0-or-later
/* tasks: processes that sleep in different places of the kernel, and the list of all. */
#define _GNU_SOURCE
#include "workload.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *idle_thread(void *name)
{
	prctl(PR_SET_NAME, name);
	pause();
	return NULL;
}

/* Processes that sleep in different places of the kernel, one with threads. */
void start_sleepers(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		char name[32];
		int ends[2];

		if (fork() != 0)
			continue;
		snprintf(name, sizeof(name), "lab-sleeper-%u", i);
		prctl(PR_SET_NAME, name);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		switch (i % 4) {
		case 0:
			pause();
			break;
		case 1:
			if (pipe(ends) == 0 && read(ends[0], name, 1) < 0)
				_exit(1);
			break;
		case 2:
			epoll_wait(epoll_create1(0), &(struct epoll_event){ 0 }, 1, -1);
			break;
		case 3: {
			pthread_t thread;

			pthread_create(&thread, NULL, idle_thread, "lab-thread-a");
			pthread_create(&thread, NULL, idle_thread, "lab-thread-b");
			sleep(1000000);
		}
		}
		_exit(0);
	}
	usleep(200000);
}

void print_json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		if ((unsigned char)*text >= ' ')
			fputc(*text, out);
	}
	fputc('"', out);
}

/* [[pid, comm], ...] from a /proc-like directory; kworkers keep the suffix /proc shows. */
void print_tasks(FILE *out, const char *directory)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	const char *separator = "";

	fprintf(out, "[");
	while (entries && (entry = readdir(entries))) {
		char path[300], comm[80];

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "%s/%s/comm", directory, entry->d_name);
		if (read_text(path, comm, sizeof(comm)))
			continue;
		fprintf(out, "%s[%s, ", separator, entry->d_name);
		print_json_string(out, comm);
		fprintf(out, "]");
		separator = ", ";
	}
	fprintf(out, "]");
	if (entries)
		closedir(entries);
}
