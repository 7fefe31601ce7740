"""Reports that compare trials: tables, figures and the HTML page."""
