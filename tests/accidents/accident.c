/*
 * What goes wrong in a kernel, on demand: write its name to /proc/accident.
 *
 * Each function that is to be seen in a stack is kept out of its caller (noinline), and has
 * something to do after its call, so that it is not a jump (barrier).
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu-rwsem.h>
#include <linux/proc_fs.h>
#include <linux/rtmutex.h>
#include <linux/rwsem.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/wait_bit.h>

struct lab_thing {
	unsigned long before[4];
	unsigned long number;
	struct lab_thing *next;
};

static struct lab_thing *lab_nothing;
DEFINE_MUTEX(lab_first);
DEFINE_MUTEX(lab_second);
DECLARE_RWSEM(lab_shared);
DEFINE_RT_MUTEX(lab_turns);
DEFINE_STATIC_PERCPU_RWSEM(lab_frozen);
DEFINE_STATIC_PERCPU_RWSEM(lab_read);
struct semaphore lab_gate;
DECLARE_COMPLETION(lab_done);
static DECLARE_COMPLETION(lab_held);
DECLARE_WAIT_QUEUE_HEAD(lab_queue);
unsigned long lab_bits = 1;
unsigned long lab_variable;

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

/* Keeps what the caller has, asleep, but not in state D. */
static int lab_keep(void)
{
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ);
	return 0;
}

static int lab_writer(void *unused)
{
	down_write(&lab_shared);
	return lab_keep();
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

static int lab_holder(void *unused)
{
	rt_mutex_lock(&lab_turns);
	down(&lab_gate);
	percpu_down_write(&lab_frozen);
	percpu_down_read(&lab_read);
	complete_all(&lab_held);
	return lab_keep();
}

static int lab_rt_mutex(void *unused)
{
	wait_for_completion(&lab_held);
	rt_mutex_lock(&lab_turns);
	return lab_keep();
}

static int lab_semaphore(void *unused)
{
	wait_for_completion(&lab_held);
	down(&lab_gate);
	return lab_keep();
}

static int lab_thaw(void *unused)
{
	wait_for_completion(&lab_held);
	percpu_down_read(&lab_frozen);
	return lab_keep();
}

static int lab_freeze(void *unused)
{
	wait_for_completion(&lab_held);
	percpu_down_write(&lab_read);
	return lab_keep();
}

static int lab_completion(void *unused)
{
	wait_for_completion(&lab_done);
	return lab_keep();
}

static int lab_event(void *unused)
{
	wait_event(lab_queue, READ_ONCE(lab_variable));
	return lab_keep();
}

static int lab_bit(void *unused)
{
	wait_on_bit(&lab_bits, 0, TASK_UNINTERRUPTIBLE);
	return lab_keep();
}

static int lab_change(void *unused)
{
	wait_var_event(&lab_variable, READ_ONCE(lab_variable));
	return lab_keep();
}

static void lab_hang(void)
{
	lab_deadlock();
	kthread_run(lab_holder, NULL, "lab-holder");
	kthread_run(lab_rt_mutex, NULL, "lab-rt-mutex");
	kthread_run(lab_semaphore, NULL, "lab-semaphore");
	kthread_run(lab_thaw, NULL, "lab-thaw");
	kthread_run(lab_freeze, NULL, "lab-freeze");
	kthread_run(lab_completion, NULL, "lab-completion");
	kthread_run(lab_event, NULL, "lab-event");
	kthread_run(lab_bit, NULL, "lab-bit");
	kthread_run(lab_change, NULL, "lab-change");
}

/* Freed memory is full of 0x6b, where slub_debug=P is on the command line. */
static noinline void lab_use_after_free(void)
{
	struct lab_thing *thing = kmalloc(sizeof(*thing), GFP_KERNEL);

	thing->next = thing;
	kfree(thing);
	OPTIMIZER_HIDE_VAR(thing);
	WRITE_ONCE(thing->next->number, 1);
	barrier();
}

static noinline int lab_deeper(int depth)
{
	volatile char room[512];

	room[0] = depth;
	if (READ_ONCE(lab_variable))
		return 0;
	return lab_deeper(depth + 1) + room[0];
}

static noinline void lab_overflow(void)
{
	WRITE_ONCE(lab_variable, lab_deeper(0));
}

static noinline void lab_spin(void)
{
	for (;;)
		cpu_relax();
}

static noinline void lab_stall(void)
{
	rcu_read_lock();
	lab_spin();
	rcu_read_unlock();
}

static noinline void lab_lockup(void)
{
	local_irq_disable();
	lab_spin();
	local_irq_enable();
}

static const struct {
	const char *name;
	void (*happen)(void);
} accidents[] = {
	{ "null", lab_null },
	{ "bug", lab_bug },
	{ "deadlock", lab_deadlock },
	{ "hang", lab_hang },
	{ "spin", lab_spin },
	{ "stall", lab_stall },
	{ "lockup", lab_lockup },
	{ "freed", lab_use_after_free },
	{ "overflow", lab_overflow },
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
	sema_init(&lab_gate, 1);
	return proc_create("accident", 0200, NULL, &accident_ops) ? 0 : -ENOMEM;
}

module_init(accident_init);
MODULE_LICENSE("GPL");
MODULE_VERSION("1.2.3");
