"""Meta-World's fifty manipulation tasks as lanes, at a fraction of the package's own Python."""
