"""The models of a repository folder: found, checked, loaded, served in versions, and changed while serving."""
