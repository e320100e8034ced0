"""The server: reads artefact folders, decodes uploads, batches, runs, answers. It never imports models or export."""
