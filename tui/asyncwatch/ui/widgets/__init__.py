"""Parts of screens. Each draws lines of spans itself, at the cost of what is visible."""
