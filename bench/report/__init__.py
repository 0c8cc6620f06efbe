"""What measurements become: tables, figures and the page of results."""
