"""What vmcorefs says of an image, for people and programs."""
