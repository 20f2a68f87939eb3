"""The stages of a row: it waits, its codes are generated, and those are decoded to samples."""
