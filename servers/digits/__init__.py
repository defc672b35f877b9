"""The built-in model: handwritten digits, 8 by 8 pixels."""
