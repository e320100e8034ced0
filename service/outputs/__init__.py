"""From the network's raw outputs to what a client is told."""
