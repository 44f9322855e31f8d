"""Tables of predictions and labels -> Evaluation: pure numbers, no images."""
