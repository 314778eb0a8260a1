"""What a kernel's log says of a crash: its title, other titles, and the class of fault.

A title groups crashes: two logs of one bug should have the same one, whatever the machine, the
addresses and the time. Titles and classes are those of syzkaller's dashboard, so that they can be
looked up there; the rules in ``rules/`` are by the kernel's sources that print the messages.
"""
