"""The presentation of measurements: tables, figures, and the page of results."""
