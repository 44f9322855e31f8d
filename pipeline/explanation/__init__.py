"""Where the model looked, in the frame of the scan."""
