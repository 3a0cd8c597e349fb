"""One file per strategy; each opens with the literal ``INFO``, readable without TensorFlow."""
