"""Measurements of the service's parts against what else one could use, as ratios in one run."""
