"""Parts of screens. Each draws lines of spans by itself; what they cost is what is visible."""
