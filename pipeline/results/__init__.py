"""What leaves: reports, model cards and tables, made from finished numbers."""
