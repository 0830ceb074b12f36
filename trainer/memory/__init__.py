"""How much memory and how many operations a run needs, measured on tensors that take no memory."""
