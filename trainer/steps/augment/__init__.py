"""Augmentation of every image that D looks at, real or generated, and of the tangents that R1 needs."""
