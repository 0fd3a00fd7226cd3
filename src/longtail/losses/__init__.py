"""Classification losses, for pixels and boxes alike: one a file."""
