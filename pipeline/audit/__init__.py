"""Does the model hold for the right reasons, and where does it break? Needs scans, and knows models."""
