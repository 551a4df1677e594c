"""What people look at: status, live progress, tables, one self-contained page. Loads matplotlib only for the page."""
