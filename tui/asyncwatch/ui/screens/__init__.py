"""Whole screens: the fleet, one worker, the log, help, and questions."""
