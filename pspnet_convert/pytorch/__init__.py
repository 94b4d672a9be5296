"""Read a checkpoint without running code in it, and build the reference from it: mmsegmentation's network."""
