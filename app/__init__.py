"""The viewer: what a clinician sees."""
