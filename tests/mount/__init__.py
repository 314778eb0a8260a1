"""What a person and their tools see: the command, and the tree through a real mount."""
