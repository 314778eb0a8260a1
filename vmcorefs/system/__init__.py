"""What the rest asks of this machine: mounts, logs, systemd, terminals."""
