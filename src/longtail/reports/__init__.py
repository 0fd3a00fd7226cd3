"""Tables, plots and HTML; reads results, runs no model."""
