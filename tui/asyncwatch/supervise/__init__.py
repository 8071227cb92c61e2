"""Supervision of async workers: asyncio only. It knows neither what workers do nor who listens."""
