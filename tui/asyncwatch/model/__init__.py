"""What a run looks like, folded from its events and nothing else. Pure: no asyncio, no Textual, no clock."""
