/*
 * What goes wrong in a kernel, on demand: write its name to /proc/accident.
 *
 * Each function that is to be seen in a stack is kept out of its caller (noinline), and has
 * something to do after its call, so that it is not a jump (barrier).
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/rwsem.h>
#include <linux/string.h>
#include <linux/uaccess.h>

struct lab_thing {
	unsigned long before[4];
	unsigned long number;
};

static struct lab_thing *lab_nothing;
DEFINE_MUTEX(lab_first);
DEFINE_MUTEX(lab_second);
DECLARE_RWSEM(lab_shared);

static noinline void lab_inner(void)
{
	WRITE_ONCE(lab_nothing->number, 1);
	barrier();
}

static noinline void lab_null(void)
{
	lab_inner();
	barrier();
}

static noinline void lab_bug(void)
{
	BUG();
}

static noinline int lab_take(struct mutex *mine, struct mutex *other)
{
	mutex_lock(mine);
	msleep(200);
	mutex_lock(other);
	barrier();
	mutex_unlock(other);
	mutex_unlock(mine);
	return 0;
}

static int lab_one_way(void *unused)
{
	return lab_take(&lab_first, &lab_second);
}

static int lab_other_way(void *unused)
{
	return lab_take(&lab_second, &lab_first);
}

static int lab_writer(void *unused)
{
	down_write(&lab_shared);
	while (!kthread_should_stop())
		msleep(100);
	up_write(&lab_shared);
	return 0;
}

static noinline int lab_reader(void *unused)
{
	msleep(200);
	down_read(&lab_shared);
	barrier();
	up_read(&lab_shared);
	return 0;
}

static void lab_deadlock(void)
{
	kthread_run(lab_one_way, NULL, "lab-one-way");
	kthread_run(lab_other_way, NULL, "lab-other-way");
	kthread_run(lab_writer, NULL, "lab-writer");
	kthread_run(lab_reader, NULL, "lab-reader-1");
	kthread_run(lab_reader, NULL, "lab-reader-2");
}

static noinline void lab_spin(void)
{
	for (;;)
		cpu_relax();
}

static const struct {
	const char *name;
	void (*happen)(void);
} accidents[] = {
	{ "null", lab_null },
	{ "bug", lab_bug },
	{ "deadlock", lab_deadlock },
	{ "spin", lab_spin },
};

static ssize_t accident_write(struct file *file, const char __user *text, size_t size, loff_t *at)
{
	char name[16] = "";
	int i;

	if (size >= sizeof(name) || copy_from_user(name, text, size))
		return -EINVAL;
	strim(name);
	for (i = 0; i < ARRAY_SIZE(accidents); i++)
		if (!strcmp(name, accidents[i].name)) {
			accidents[i].happen();
			return size;
		}
	return -ENOENT;
}

static const struct proc_ops accident_ops = { .proc_write = accident_write };

static int __init accident_init(void)
{
	return proc_create("accident", 0200, NULL, &accident_ops) ? 0 : -ENOMEM;
}

module_init(accident_init);
MODULE_LICENSE("GPL");
MODULE_VERSION("1.2.3");
