"""How much of its code, and of the factors of that, a generated image shows."""
