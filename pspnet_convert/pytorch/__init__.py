"""From a checkpoint file to the reference, mmsegmentation's own network, without running code in the file."""
