"""What people look at: status, live progress, tables, one self-contained page. Loads plotly only for the page."""
