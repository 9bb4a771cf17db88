"""Pure rules over plain values: no clock, no random numbers, no input or output, no wire type."""
