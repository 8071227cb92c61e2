"""Text of cells, lines and pages, made from plain data. Only `styles` imports Textual."""
