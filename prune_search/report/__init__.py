"""Reports: tables, pictures and the page that compare trials."""
