"""The commands of the command line, a module each; these alone know every room."""
