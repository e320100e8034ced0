"""HTTP routes: what clients send and receive. The work itself is in service.pipeline."""
