"""Networks of others whose weights are the user's files: what FID and path lengths see of an image."""
