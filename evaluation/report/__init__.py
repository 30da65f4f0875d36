"""What an evaluation found: summary, tables, figures, examples and one HTML page."""
