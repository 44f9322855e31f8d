"""Volume -> probabilities: preprocessing, networks, training, the model folder."""
