"""The results of an evaluation: summary, tables, figures, examples and one HTML page."""
