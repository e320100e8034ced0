"""The same clips and the same model file behind clipserve and behind what else people serve them with."""
