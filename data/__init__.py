"""Embedded demo scans and public data sets."""
