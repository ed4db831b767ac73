"""Training of DUCH: captioned images in, a checkpoint out. Needs the extra `train`."""
