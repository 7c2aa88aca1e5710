"""What other libraries need to be told: a module for each, which imports it. Nothing here is imported by lerac_fast."""
