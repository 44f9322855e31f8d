"""One file a claim: python -m benchmarks.NAME, or `make bench` for all of them."""
