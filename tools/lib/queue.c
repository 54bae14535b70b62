// SPDX-License-Identifier: GPL-2.0
/* The module's queues. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libvireo.h"

#define MSI_NOWHERE	0xfee00000ULL

/**
 * vireo_queue_create - have a ring served
 * @fd: disk or interface
 * @create: the ring; @create->size is filled in
 *
 * Return: the queue's fd, or a negative errno.
 */
int vireo_queue_create(int fd, const struct vireo_create_queue *create)
{
	struct vireo_create_queue arg = *create;
	int queue;

	arg.size = sizeof(arg);
	queue = ioctl(fd, VIREO_CREATE_QUEUE, &arg);
	return queue < 0 ? -errno : queue;
}

/**
 * vireo_queue_set_msi - where a queue's interrupts go
 * @queue: its fd
 * @msi: NULL: nowhere, they wait
 *
 * Return: 1 if one is waiting, 0, or a negative errno: EINVAL if @msi is none.
 */
int vireo_queue_set_msi(int queue, const struct vireo_msi *msi)
{
	struct vireo_queue_msi arg = {
		.size = sizeof(arg), .flags = msi ? 0 : VIREO_MSI_MASKED,
		.address = msi ? msi->address : MSI_NOWHERE, .data = msi ? msi->data : 0,
	};
	int ret = ioctl(queue, VIREO_SET_MSI, &arg);

	return ret < 0 ? -errno : ret;
}

/** vireo_queue_stat - a queue's counters; 0 or a negative errno */
int vireo_queue_stat(int queue, struct vireo_queue_stat *stat)
{
	memset(stat, 0, sizeof(*stat));
	stat->size = sizeof(*stat);
	return ioctl(queue, VIREO_GET_QUEUE_STAT, stat) ? -errno : 0;
}

/** vireo_queue_close - end a queue; returns when nothing of it is in flight */
void vireo_queue_close(int queue)
{
	close(queue);
}
