"""The settings of a run: their schema, how they are read, and which contradict each other."""
