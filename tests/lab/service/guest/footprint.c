// SPDX-License-Identifier: GPL-2.0-or-later
// Runs a program in the crash kernel and tells the console, in one line of JSON, what it was called
// with, how it ended and what it cost:
//
//     footprint [-k SIGNAL:BYTES] [-t SECONDS] PROGRAM ARGUMENT...
//
// -k sends SIGNAL once the program has written BYTES (/proc/PID/io).  -t kills it after
// SECONDS.  The exit status is passed on, 128 + N for signal N, as a shell would have it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { POLL_NS = 50 * 1000 * 1000, LINE_SIZE = 8192 };

static char line[LINE_SIZE];
static size_t length;

static void add(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int n = vsnprintf(line + length, sizeof(line) - length, format, arguments);
	va_end(arguments);
	if (n > 0 && length + n < sizeof(line))
		length += n;
}

// The number after `key` in a file of "key: number" lines, -1 if there is none.
static long field(const char *path, const char *key)
{
	char text[256];
	long value = -1;
	FILE *file = fopen(path, "r");

	if (!file)
		return -1;
	while (value < 0 && fgets(text, sizeof(text), file))
		if (!strncmp(text, key, strlen(key)))
			value = strtol(text + strlen(key), NULL, 10);
	fclose(file);
	return value;
}

static long available_kib(void)
{
	return field("/proc/meminfo", "MemAvailable:");
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double seconds(struct timeval time)
{
	return time.tv_sec + time.tv_usec / 1e6;
}

static void add_arguments(char **argv)
{
	add("\"argv\": [");
	for (int i = 0; argv[i]; i++)
		add("%s\"%s\"", i ? ", " : "", argv[i]);	// no quotes in what services pass
	add("]");
}

int main(int argc, char **argv)
{
	int signal_to_send = 0, status = 0;
	long after_bytes = 0, limit_seconds = 3600;
	int option;

	while ((option = getopt(argc, argv, "+k:t:")) != -1) {
		if (option == 'k' && sscanf(optarg, "%d:%ld", &signal_to_send, &after_bytes) == 2)
			continue;
		if (option == 't' && (limit_seconds = strtol(optarg, NULL, 10)) > 0)
			continue;
		return 125;
	}
	argv += optind;
	if (!argv[0])
		return 125;

	long before = available_kib(), least = before;
	double started = now();
	pid_t child = fork();
	if (child == 0) {
		execvp(argv[0], argv);
		perror(argv[0]);
		_exit(127);
	}

	char io[64];
	struct rusage usage;
	const struct timespec pause = { 0, POLL_NS };
	snprintf(io, sizeof(io), "/proc/%d/io", child);
	while (wait4(child, &status, WNOHANG, &usage) == 0) {
		long free_now = available_kib();
		if (free_now < least)
			least = free_now;
		if (signal_to_send && field(io, "wchar:") >= after_bytes) {
			kill(child, signal_to_send);
			signal_to_send = 0;
		}
		if (now() - started > limit_seconds)
			kill(child, SIGKILL);
		nanosleep(&pause, NULL);
	}
	double took = now() - started;
	int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);

	add("\nLAB-COST {");
	add_arguments(argv);
	add(", \"status\": %d, \"max_rss_kib\": %ld", code, usage.ru_maxrss);
	add(", \"wall_seconds\": %.2f, \"user_seconds\": %.2f, \"system_seconds\": %.2f", took,
	    seconds(usage.ru_utime), seconds(usage.ru_stime));
	add(", \"available_before_kib\": %ld, \"available_least_kib\": %ld", before, least);
	add(", \"available_after_kib\": %ld}\n", available_kib());
	FILE *console = fopen("/dev/ttyS0", "w");
	if (console) {
		fputs(line, console);
		fclose(console);
	}
	return code;
}
