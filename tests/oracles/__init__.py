"""What tests compare with: readers and rules that share no code with vmcorefs, and other tools."""
