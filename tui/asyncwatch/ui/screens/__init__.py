"""Whole screens: the fleet, one worker, errors, limits, the log, help, overhead, options, and questions."""
