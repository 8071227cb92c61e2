"""Pure text of cells, lines and pages: no widget, no Textual."""
