"""Finding the crashed kernel in memory: what the user did not have to say."""
