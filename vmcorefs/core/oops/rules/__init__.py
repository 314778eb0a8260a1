"""What the kernel prints of each kind of crash, and what title and class that has.

A module for each kind, named for what happened; ``families.py`` has them by the word that a message
starts with.
"""
