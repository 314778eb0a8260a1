/*
 * Reads a file in one way and prints the wall clock seconds, its own CPU seconds, and the bytes.
 *
 *   reader seq FILE SIZE        read it all with reads of SIZE bytes
 *   reader random FILE COUNT SEED   COUNT reads of 4096 bytes at page-aligned places
 *   reader mmap FILE            copy it all out of a mapping
 *
 * In C, as an interpreter would cost as much as the read that is measured.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_utime.tv_sec + u.ru_utime.tv_usec / 1e6 +
	       u.ru_stime.tv_sec + u.ru_stime.tv_usec / 1e6;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint64_t read_all(int fd, char *buffer, size_t size, uint64_t length)
{
	uint64_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd, buffer, size, done);

		if (n <= 0)
			die("pread");
		done += n;
	}
	return done;
}

static uint64_t read_random(int fd, char *buffer, uint64_t length, long count, uint64_t seed)
{
	uint64_t pages = length / PAGE;

	for (long i = 0; i < count; i++)
		if (pread(fd, buffer, PAGE, next_random(&seed) % pages * PAGE) != PAGE)
			die("pread");
	return (uint64_t)count * PAGE;
}

static uint64_t read_mapped(int fd, char *buffer, size_t size, uint64_t length)
{
	char *map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap");
	for (uint64_t done = 0; done < length; done += size)
		memcpy(buffer, map + done, length - done < size ? length - done : size);
	munmap(map, length);
	return length;
}

int main(int argc, char **argv)
{
	size_t size = 1 << 20;
	struct stat status;
	double wall, used;
	uint64_t bytes;
	char *buffer;
	int fd;

	if (argc < 3)
		return 2;
	fd = open(argv[2], O_RDONLY);
	if (fd < 0 || fstat(fd, &status))
		die(argv[2]);
	if (!strcmp(argv[1], "seq") && argc == 4)
		size = strtoul(argv[3], NULL, 0);
	buffer = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffer == MAP_FAILED)
		die("mmap");
	wall = now();
	used = cpu();
	if (!strcmp(argv[1], "seq") && argc == 4)
		bytes = read_all(fd, buffer, size, status.st_size);
	else if (!strcmp(argv[1], "random") && argc == 5)
		bytes = read_random(fd, buffer, status.st_size, atol(argv[3]),
				    strtoull(argv[4], NULL, 0) | 1);
	else if (!strcmp(argv[1], "mmap"))
		bytes = read_mapped(fd, buffer, size, status.st_size);
	else
		return 2;
	printf("%.9f %.6f %llu\n", now() - wall, cpu() - used, (unsigned long long)bytes);
	return 0;
}
