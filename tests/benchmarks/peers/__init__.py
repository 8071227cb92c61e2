"""Programs that the cases start: what asyncwatch is measured against, and what it is given to do."""
