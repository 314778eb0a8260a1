"""QEMU's migration stream: what ``migrate``, ``savevm`` and ``virsh save`` write."""
