"""A whole Debian under QEMU, which crashes and is looked after by vmcorefs in its capture kernel.

``tests/lab`` makes captures with the least that can crash; here systemd runs in both kernels, and
vmcorefs is installed as a user would install it. The modules, from the bottom up: ``store`` (what
is kept between runs), ``wheels`` and ``disk`` (a root file system on a disk), ``monitor`` and
``machine`` (QEMU, and what is said to the guest and by it), ``armed`` (a machine that is up and
about to panic, kept as a snapshot so that no test boots it again) and ``crashes`` (what the tests
do with it). ``guest/`` goes into the root file system.
"""
