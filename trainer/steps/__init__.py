"""One iteration of each stage as plain code, with its losses, forward passes, averages and schedule."""
