"""The commands, a module for each: ``vmcorefs.cli`` imports the one that is asked for."""
