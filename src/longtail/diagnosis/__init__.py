"""Pictures of what fails, and labels that look wrong: they read predictions and photographs, and run no model."""
