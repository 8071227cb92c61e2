"""Views of a fleet: filter, order, marks, clusters. Pure."""
