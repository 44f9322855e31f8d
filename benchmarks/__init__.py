"""What we claim about speed and memory, measured beside a peer and beside the physical limit: `make bench`."""
