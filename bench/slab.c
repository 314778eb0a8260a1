/*
 * Fills the guest's memory with the kernel's own objects, as a busy file server's: empty files of a
 * tmpfs, until three quarters of the memory that was free are gone. Run as tests/lab/workload.c is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

enum { FILES = 1000 };

static unsigned long free_bytes(void)
{
	struct sysinfo info;

	sysinfo(&info);
	return info.freeram * info.mem_unit;
}

int main(int argc, char **argv)
{
	unsigned long enough = free_bytes() / 4;
	char path[64];
	int directory = 0;

	(void)argc;
	if (mount("none", argv[2], "tmpfs", MS_REMOUNT, "nr_inodes=0") || chdir(argv[2]))
		return 1;
	for (; free_bytes() > enough; directory++) {
		snprintf(path, sizeof path, "directory-%d", directory);
		if (mkdir(path, 0755))
			return 1;
		for (int file = 0; file < FILES; file++) {
			snprintf(path, sizeof path, "directory-%d/session-%d.log", directory, file);
			if (mknod(path, S_IFREG | 0644, 0))
				return 1;
		}
	}
	printf("ready %d files\n", directory * FILES);
	return 0;
}
