/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * makedumpfile -R asks standard input for more for ten minutes after its end, by the seconds of
 * time(). Preloaded, this lets them be over: at each end of file ten minutes have gone by.
 */

#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t waited;

ssize_t read(int fd, void *buffer, size_t size)
{
	ssize_t n_read = syscall(SYS_read, fd, buffer, size);

	if (fd == STDIN_FILENO && size && !n_read)
		waited += 601;
	return n_read;
}

time_t time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += waited;
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
