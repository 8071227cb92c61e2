"""What workers call: an HTTP request, any `async def`, or the demo's built-in site."""
