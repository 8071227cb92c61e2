"""What workers call: an HTTP request, a function, or the demo's built-in site."""
