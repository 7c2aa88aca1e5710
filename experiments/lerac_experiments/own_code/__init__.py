"""Code that is not this package's: how it is named and called, and what of it makes a trial another one."""
