"""What workers call: an HTTP request, any `async def`, or the built-in site of the demo."""
