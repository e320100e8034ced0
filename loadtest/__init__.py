"""Load on running servers: Locust's users, and other servers side by side."""
