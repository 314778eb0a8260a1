"""What debuggers load: symbols, gdb's commands, its threads, modules' debug files."""
