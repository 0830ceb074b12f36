"""Tables and pages of experiments, from what their jobs left in results/."""
