"""What a row goes through: it waits, its codes are made, and samples of those."""
