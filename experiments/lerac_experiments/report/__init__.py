"""Reports of experiments: the papers' tables and figures from whatever trials have ended."""
