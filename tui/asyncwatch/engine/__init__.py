"""Supervision on asyncio: scheduler, attempts, runs and trees."""
