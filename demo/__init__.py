"""The demo: generated, labelled clips, the small network trained on them, and the sample media."""
