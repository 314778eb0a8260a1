"""Real kernels: crashed in QEMU by ``tests.lab``, mounted, and read by other people's tools."""
