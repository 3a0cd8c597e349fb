"""One file per strategy. isoscale reads its literal ``INFO`` without JAX."""
