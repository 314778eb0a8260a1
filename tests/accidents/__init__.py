"""Real accidents of real kernels: each is made in QEMU, and the report must say what it was."""
