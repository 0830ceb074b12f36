"""The two stages of training: networks, optimizers, state and step of a config."""
