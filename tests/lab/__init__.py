"""The lab: crash a real Debian kernel under QEMU and keep what a user would have afterwards.

``capture`` is the way in, from Python and from the command line; the other modules serve it, from
the bottom up: ``host`` (programs, locks, directories), ``kernels`` (packages), ``initramfs`` and
``init`` (what runs in the guest), ``qemu`` (the machine), ``console`` (what it said), ``evidence``
(is the capture sound?), ``build`` (one capture) and ``cache`` (captures kept between runs).
"""
