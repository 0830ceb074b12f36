"""The watch of stage 2: signs of a collapse at every tick, and the warning, the stop or the rewind that follows."""
