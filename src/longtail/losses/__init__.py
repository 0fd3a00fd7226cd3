"""Classification losses, for pixels and boxes alike: one per file."""
