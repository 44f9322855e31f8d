"""Scans and labels -> train, tune and test, split by patient."""
