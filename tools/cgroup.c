// SPDX-License-Identifier: GPL-2.0
/* A control group (v2) for each VM, below one that the user names. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "builtin.h"

/**
 * cgroup_enter - make a group for this process, and move there
 * @dir: directory of the group above
 * @name: the VM's; the group's too
 * @err: why not
 *
 * What the process and its VM use from then on is the group's.  The group stays
 * when the process has ended.
 */
int cgroup_enter(const char *dir, const char *name, struct vireo_error *err)
{
	char path[PATH_MAX];
	int fd, code;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return vireo_fail(err, ENAMETOOLONG, "the path of the cgroup is too long");
	if (mkdir(path, 0755) && errno != EEXIST)
		return vireo_fail(err, errno, "cannot make the cgroup %s: %s", path,
				  strerror(errno));
	if ((size_t)snprintf(path, sizeof(path), "%s/%s/cgroup.procs", dir, name) >= sizeof(path))
		return vireo_fail(err, ENAMETOOLONG, "the path of the cgroup is too long");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return vireo_fail(err, errno, "%s/%s is not a cgroup (v2): %s", dir, name,
				  strerror(errno));
	code = write(fd, "0", 1) == 1 ? 0 : errno;
	close(fd);
	return !code ? 0 : vireo_fail(err, code, "cannot move to the cgroup %s/%s: %s", dir, name,
				      strerror(code));
}
