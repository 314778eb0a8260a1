"""The kernel that died: found once, asked by everybody."""
