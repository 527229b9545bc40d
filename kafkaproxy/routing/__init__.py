"""From models to the table that requests are matched against."""
