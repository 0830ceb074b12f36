"""One engine for each strategy (ddp, fsdp2, zero1 to zero3): a network with its optimizer."""
