/*
 * Makes pages of every kind that a dump level asks for, says which ones, and keeps them.
 *
 * Run in the guest by init, as "workload BLOCKDEVICE TMPFS HUGETLBFS". It prints a line for each run
 * of pages, "NAME PFN COUNT" (hexadecimal, then decimal), "ready", and sleeps in the background.
 * /proc/PID/pagemap says where pages are (Documentation/admin-guide/mm/pagemap.rst).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif

enum { PAGE = 4096, MIB = 1 << 20, HUGE = 2 * MIB };

static int pagemap;

static void fail(const char *what)
{
	printf("failed %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t pfn_of(const char *at)
{
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof entry, (uintptr_t)at / PAGE * sizeof entry) != sizeof entry)
		fail("pagemap");
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0; /* present, and not swapped out */
}

static void report(const char *name, const char *start, size_t size)
{
	uint64_t first = 0, count = 0, pfn;

	for (size_t at = 0; at < size; at += PAGE) {
		pfn = pfn_of(start + at);
		if (count && pfn == first + count) {
			count++;
			continue;
		}
		if (count)
			printf("%s %llx %llu\n", name, (unsigned long long)first, (unsigned long long)count);
		first = pfn;
		count = pfn != 0;
	}
	if (count)
		printf("%s %llx %llu\n", name, (unsigned long long)first, (unsigned long long)count);
}

static char *map(const char *name, size_t size, int flags, int fd)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	if (at == MAP_FAILED)
		fail(name);
	return at;
}

/* no two pages alike, and none of zeros */
static void fill(char *at, size_t size)
{
	for (size_t word = 0; word < size / sizeof(uint64_t); word++)
		((uint64_t *)at)[word] = 0x9e3779b97f4a7c15ULL * (word + 1) ^ (uintptr_t)at;
}

static char *aligned(size_t size)
{
	uintptr_t at = (uintptr_t)map("aligned", size + HUGE, MAP_PRIVATE, -1);

	return (char *)((at + HUGE - 1) / HUGE * HUGE);
}

static char *small(const char *name, size_t size)
{
	char *at = aligned(size);

	madvise(at, size, MADV_NOHUGEPAGE);
	fill(at, size);
	report(name, at, size);
	return at;
}

static void in_file(const char *name, const char *directory, size_t size)
{
	char path[256], *at;
	int fd;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || ftruncate(fd, size))
		fail(path);
	at = map(path, size, MAP_SHARED, fd);
	fill(at, size);
	report(name, at, size);
}

/* what is read of a device is cache, and what is written has buffers too, that is, it is private */
static void of_device(const char *device)
{
	int fd = open(device, O_RDWR);
	off_t end = lseek(fd, 0, SEEK_END);
	static char buffer[MIB];
	volatile char sum = 0;
	char *at;

	if (fd < 0 || end < 4 * MIB)
		fail(device);
	if (pread(fd, buffer, sizeof buffer, 0) != sizeof buffer)
		fail(device);
	fill(buffer, sizeof buffer);
	if (pwrite(fd, buffer, sizeof buffer, end - MIB) != sizeof buffer)
		fail(device);
	for (int written = 0; written < 2; written++) {
		at = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, written ? end - MIB : 0);
		if (at == MAP_FAILED)
			fail(device);
		for (size_t done = 0; done < MIB; done += PAGE)
			sum += at[done];
		report(written ? "written" : "read", at, MIB);
	}
}

/* a page whose hardware is said to have failed: the kernel kills whoever has it, unless it was built
   without CONFIG_MEMORY_FAILURE */
static void poison(const char *name)
{
	uint64_t pfn;
	char *at;
	int status;
	pid_t child = fork();

	if (child == 0) {
		pagemap = open("/proc/self/pagemap", O_RDONLY); /* its own, not its parent's */
		at = aligned(4 * PAGE) + 2 * PAGE;
		fill(at, PAGE);
		pfn = pfn_of(at);
		if (!pfn)
			fail(name);
		printf("%s %llx 1\n", name, (unsigned long long)pfn);
		_exit(madvise(at, PAGE, MADV_HWPOISON) ? errno : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		fail(name);
	if (WIFEXITED(status))
		printf("without %s: %s\n", name, strerror(WEXITSTATUS(status)));
}

int main(int argc, char **argv)
{
	char *at;

	if (argc != 4)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (pagemap < 0)
		fail("pagemap");
	small("anon", 8 * MIB);
	at = small("mlocked", MIB);
	if (mlock(at, MIB))
		fail("mlock");
	at = aligned(8 * MIB);
	madvise(at, 8 * MIB, MADV_HUGEPAGE);
	fill(at, 8 * MIB);
	report("thp", at, 8 * MIB);
	at = map("shmem", 2 * MIB, MAP_SHARED, -1);
	fill(at, 2 * MIB);
	report("shmem", at, 2 * MIB);
	at = map("hugetlb", 2 * HUGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1);
	fill(at, 2 * HUGE);
	report("hugetlb", at, 2 * HUGE);
	in_file("hugetlbfs", argv[3], 2 * HUGE);
	in_file("tmpfs", argv[2], 6 * MIB);
	if (!access(argv[1], R_OK))
		of_device(argv[1]);
	poison("poisoned");
	puts("ready");
	if (fork())
		return 0;
	close(0);
	close(1);
	close(2);
	for (;;)
		pause();
}
