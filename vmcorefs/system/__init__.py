"""Services of this machine that the rest uses: mounts, logs, systemd, terminals."""
