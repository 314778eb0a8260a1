"""What kexec has loaded for the crash kernel: the elfcorehdr, and the backup of low memory."""
