"""Pure rules over plain values: no clock, no chance, no input or output, no wire type."""
