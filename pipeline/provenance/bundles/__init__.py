"""Voice bundles: export of a saved voice as a signed zip file, and import on any installation."""
