"""Labels that condition G and D (`labels`): what they are, and the label vector y of each image of a set."""
