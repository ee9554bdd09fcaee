// SPDX-License-Identifier: GPL-2.0-or-later
/* system: files of /proc and /sys, the console, and what the host is asked to do. */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	printf("LAB-FAIL workload: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(": %s\n", strerror(error));
	fflush(stdout);
	exit(1);
}

void say(const char *format, ...)
{
	va_list arguments;

	printf("LAB-NOTE ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t written;

	if (fd < 0)
		return -1;
	written = write(fd, text, strlen(text));
	close(fd);
	return written < 0 ? -1 : 0;
}

int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	return got < 0 ? -1 : 0;
}

unsigned long read_number(const char *path)
{
	char text[64];

	return read_text(path, text, sizeof(text)) ? 0 : strtoul(text, NULL, 0);
}

size_t meminfo_kib(const char *key)
{
	FILE *meminfo = fopen("/proc/meminfo", "r");
	char line[128];
	size_t kib = 0;

	while (meminfo && fgets(line, sizeof(line), meminfo))
		if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
			kib = strtoul(line + strlen(key) + 1, NULL, 10);
	if (meminfo)
		fclose(meminfo);
	return kib;
}

/* Ask the host for something it must do from outside; it answers with one line. */
void ask_host(const char *request)
{
	char answer[64];
	int console = open("/dev/ttyS0", O_RDWR | O_NOCTTY);

	if (console < 0)
		fail("/dev/ttyS0");
	dprintf(console, "\nLAB-ASK %s\n", request);
	do {
		ssize_t got = read(console, answer, sizeof(answer) - 1);

		if (got <= 0)
			fail("no answer from the host to '%s'", request);
		answer[got] = 0;
	} while (!strstr(answer, "ok"));
	close(console);
}
