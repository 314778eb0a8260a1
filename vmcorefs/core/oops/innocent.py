r"""Functions that are never to blame for a crash, although they stand on top of its stack.

They do what they are told, and trip over what a caller handed them; or they are how the kernel
notices, reports and ends it. Which functions syzkaller's titles pass over is a fact that its
dashboard rests on; here they are by what they do. Names are matched anywhere unless anchored.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_DETECTORS = (
    "__sanitizer|__asan|kasan|hwasan|__msan|kmsan|kcsan_setup_watchpoint|check_memory_region"
    "|check_heap_object|check_object|print_address_description|print_report|debug_object"
    "|(?:timer|work)_is_static_object|(?:read|write)_once_.*nocheck|read_word_at_a_time"
    "|__fortify_report|ref_tracker|seqprop_assert|assertfail"
)
_REPORTING = (
    "panic|report_bug|fixup_bug|invalid_op|do_error|_trap$|do_trap|warn_slowpath|warn_alloc"
    "|warn_bogus|__warn|print_tainted|^get_taint$|show_stack|dump_stack|walk_stack|dump_backtrace"
    "|stack_trace_consume_entry|arch_stack_walk|stack_trace_save|hex_dump_to_buffer|print_hex_dump"
    "|program_check_(?:exception|common)|perf_trace|__rustc::rust_begin_unwind"
    "|do_(?:kernel|translation)_fault|do_mem_abort|el1_abort|el1h_64_sync(?:_handler)?"
)
_PRINTING = (
    "printk|va_format|string|pointer|snprintf|scnprintf|kasprintf|kvasprintf"
    "|dev_(?:info|notice|warn|err|alert|crit|emerg)"
)
_LOCKS = (
    "lockdep|lock_acquire|lock_release|lock_class|mark_lock|(?:reacquire|mark)_held_locks"
    "|print_usage_bug|print_unlock|imbalance_bug|(?:trace|lockdep)_(?:hard|soft)irq"
    "|bh_enable|bh_disable|raw_spin_rq|spin_(?:try|un)?lock|(?:read|write)_(?:try|un)?lock"
    "|^down$|down_(?:read|write)|down_trylock|up_(?:read|write)|^(?:__|rt_)?mutex_|owner_on_cpu"
    "|osq_(?:un)?lock|^(?:un)?lock_page|folio_unlock|might_fault|might_sleep|__might_resched"
)
_WAITING = (
    "__wake_up|finish_wait|^complete$|wait_for_completion|kthread_stop|cleanup_srcu_struct"
    "|flush_work|__cancel_work_timer|cancel_work_sync|try_to_grab_pending"
    "|(?:drain|destroy)_workqueue|queue_work|insert_work|queue_delayed_work"
    "|del_timer|lock_timer_base|__timer_delete_sync|sk_stop_timer_sync|__mod_timer"
)
_ALLOCATORS = (
    "alloc_page|k?v?[mzc]alloc|krealloc|kmem_cache|allocate_slab|slab_|^kv?free$|kfree_skb"
    "|__alloc_frozen_pages_noprof|ida_free"
)
_PAGE_CACHE = (
    "folio_alloc|filemap_alloc_folio|__filemap_get_folio|find_or_create_page|do_read_cache_folio"
    "|read_cache_page|pagecache_get_page|grab_cache_page_write_begin|find_lock_entries"
    "|truncate_inode_pages_range|xas_(?:start|load|find)|__phys_addr|^mark_buffer_dirty$"
)
_COPYING = (
    "mem(?:cpy|cmp|set|chr|move|dup)|str(?:n?cmp|n?cpy|lcpy|scpy|n?len|n?str|chr|n?dup)"
    "|copy_(?:to|from)_(?:user|iter)|copy_page_(?:to|from)_iter|copy_folio_to_iter"
    "|^copy(?:in|out)$|(?:put|get)_user|extract_(?:user|iter)_to_sg"
    r"|(?:read|write)[bwlq]$|logic_(?:in|out)|^crc\d+|crc_itu_t|_indirect_thunk_"
)
_COUNTING = (
    "atomic(?:64)?_(?:dec|inc|read|set|or|xor|and|add|sub|fetch|xchg|cmpxchg|try)"
    "|(?:set|clear|change|test)_bit|^refcount_|^kref_"
)
_CONTAINERS = "list_(?:add|del|replace|move|splice)|^klist_|^(?:__)?rb_|rhashtable_lookup"
_OBJECTS = (
    "kobject_|add_uevent_var|get_device_parent|device_(?:add|del|unregister|destroy|release)"
    "|^put_device$|devres_release_all|device_for_each_child|device_remove_file|sysfs_remove"
    "|hwrng_unregister|i2c_del_adapter|__unregister_client|rollback_registered|unregister_netdev"
    "|tty_unregister_device|dummy_urb_enqueue|usb_kill_(?:anchored_)?urb|usb_control_msg"
    "|usb_(?:hcd_)?submit_urb|^iput(?:_final)?$|^ihold$|drop_nlink|dput"
)

_ALL: Final = (
    *(_DETECTORS, _REPORTING, _PRINTING, _LOCKS, _WAITING, _ALLOCATORS, _PAGE_CACHE, _COPYING),
    *(_COUNTING, _CONTAINERS, _OBJECTS),
)
_INNOCENT: Final = re.compile("|".join(_ALL))


@lru_cache(maxsize=4096)
def is_innocent(function: str) -> bool:
    """Whether a function is never to blame."""
    return _INNOCENT.search(function[:128]) is not None
