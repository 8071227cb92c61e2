"""Whole screens: the fleet, one worker, errors, circuits, the log, help, overhead, options, and questions."""
