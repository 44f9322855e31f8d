"""Many scans -> one row each, whatever happens."""
