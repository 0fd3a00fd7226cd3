"""Tables, plots and the HTML report: they read results, and run no model."""
